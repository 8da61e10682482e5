package bookingtest

import (
	"fmt"
	"hash/maphash"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
)

// CheckCalls fails the test unless the calls about each booking and each rider are linearizable:
// there is an order of these calls that respects real time, and in which the specification gives
// their answers. It returns the number of histories checked.
func CheckCalls(t testing.TB, calls []*Call, riders []string) int {
	t.Helper()
	all := histories(calls, riders)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, h := range all {
		group.Go(func() error {
			h.check(t)
			return nil
		})
	}
	_ = group.Wait()
	return len(all)
}

// Linearizable reports whether [CheckCalls] would pass.
func Linearizable(calls []*Call, riders []string) bool {
	return !slices.ContainsFunc(histories(calls, riders), func(h history) bool {
		result, _ := h.verdict()
		return result != porcupine.Ok
	})
}

// A history is the calls about one booking or one rider, and their specification.
type history struct {
	of    string
	model porcupine.NondeterministicModel
	calls []*Call
}

func describeState(state any) string { return fmt.Sprintf("%+v", state) }
func describeCall(in, _ any) string  { return in.(*Call).String() }

// track notes which commands have several calls.
func track(calls []*Call) {
	times := map[booking.CommandID]int{}
	for _, x := range calls {
		times[x.Command]++
	}
	for _, x := range calls {
		if x.Command != "" && times[x.Command] > 1 {
			x.track()
		}
	}
}

// histories returns the histories to check.
func histories(calls []*Call, riders []string) []history {
	track(calls)
	byBooking, byRider := map[booking.ID][]*Call{}, map[string][]*Call{}
	for _, x := range calls {
		if x.ID != "" { // else the call named no booking, and got none
			byBooking[x.ID] = append(byBooking[x.ID], x)
		}
		// whether the answer names the booking's parties
		told := !x.Partly || x.Actor.Role != booking.Rider
		if x.Answer == OK && (x.First != x.Begin || x.met()) &&
			told { // a retry gets the booking as it was at some moment since the first try
			byBooking[x.ID] = append(
				byBooking[x.ID],
				&Call{
					Client: x.Client,
					Op:     OpShow,
					ID:     x.ID,
					Actor:  x.Actor,
					First:  x.First,
					Begin:  x.First,
					End:    x.End,
					Got:    x.Got,
					Partly: x.Partly,
				},
			)
		}
		if x.Op == OpAccept {
			byRider[x.Actor.ID] = append(byRider[x.Actor.ID], x)
		}
	}
	hashing := maphash.MakeSeed()
	var hs []history
	for id, calls := range byBooking {
		hs = append(hs, history{"booking " + string(id), porcupine.NondeterministicModel{
			Init:          func() []any { return []any{ride{}} },
			Step:          func(state, in, _ any) []any { return state.(ride).next(in.(*Call)) },
			Hash:          func(state any) uint64 { return maphash.Comparable(hashing, state.(ride)) },
			DescribeState: describeState, DescribeOperation: describeCall,
		}, calls})
	}
	for _, r := range riders {
		had := map[booking.ID]bool{}
		for _, x := range byRider[r] {
			if x.begins(r) {
				had[x.ID] = true
			}
		}
		ids := slices.Collect(maps.Keys(had))
		calls := slices.DeleteFunc(slices.Clone(byRider[r]), func(x *Call) bool { return !x.concerns(r, nil) })
		for _, id := range ids {
			for _, x := range byBooking[id] {
				if x.Op != OpAccept && x.concerns(r, []booking.ID{id}) {
					calls = append(calls, x)
				}
			}
		}
		hs = append(hs, history{"rider " + r, porcupine.NondeterministicModel{
			Init:          func() []any { return []any{duty{}} },
			Step:          func(state, in, _ any) []any { return state.(duty).next(in.(*Call), r) },
			Hash:          func(state any) uint64 { return maphash.Comparable(hashing, state.(duty)) },
			DescribeState: describeState, DescribeOperation: describeCall,
		}, calls})
	}
	return hs
}

// check fails the test unless the history is linearizable.
func (h history) check(t testing.TB) {
	began := time.Now()
	result, info := h.verdict()
	if took := time.Since(began); took > time.Second {
		t.Logf("%s took %v: %d calls", h.of, took.Round(time.Millisecond), len(h.calls))
	}
	if result == porcupine.Ok {
		return
	}
	slices.SortFunc(h.calls, func(a, b *Call) int { return int(a.Begin - b.Begin) })
	var lines strings.Builder
	for _, x := range h.calls[:min(len(h.calls), 200)] {
		fmt.Fprintln(&lines, x)
	}
	path := filepath.Join(t.ArtifactDir(), strings.ReplaceAll(h.of, " ", "-")+".html")
	t.Errorf(
		"the history of %s is not linearizable (%s); with -artifacts, a picture is in %s:\n%s",
		h.of,
		result,
		path,
		lines.String(),
	)
	if err := porcupine.VisualizePath(h.model.ToModel(), info, path); err != nil {
		t.Log(err)
	}
}

// verdict checks a history against its specification.
func (h history) verdict() (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var ops []porcupine.Operation
	for _, x := range h.calls {
		ops = append(ops, porcupine.Operation{ClientId: x.Client, Input: x, Call: x.Begin, Return: x.End})
	}
	return porcupine.CheckOperationsVerbose(h.model.ToModel(), ops, time.Minute)
}
