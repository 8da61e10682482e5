package bus_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"pillion/booking"
	"pillion/bus"
	"pillion/bus/bustest"
)

func containsError(answer []byte) bool { return bytes.Contains(answer, []byte(`"error"`)) }

// TestModel lets a crowd do as it likes with bookings, at several instances at once, on one replica and on three whose leader steps down every
// 400 ms. Whatever anybody was answered, the whole must be as if one thing had happened after the other: see model_spec_test.go. Then the
// ledger is inspected, and boards that have looked on all the time are held against one that reads it now.
func TestModel(t *testing.T) {
	users, riders, ledgers := 12, 8, 4
	life, limit := 4*time.Second, int64(2500)
	if os.Getenv("PILLION_LONG") != "" {
		life, limit = 30*time.Second, 20_000
	}
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := newKit(t, e)
		ledger := k.ledger(t)
		one, _ := follow(t, ledger)
		other, _ := follow(t, k.ledger(t))
		seed := rand.Uint64()
		t.Logf("seed %d", seed)

		ctx, stop := context.WithTimeout(t.Context(), life)
		defer stop()
		var background sync.WaitGroup
		downs := stepDown(ctx, t, e, &background)
		c := newCrowd(t, k, ledgers, riders, limit)
		c.run(ctx, k, users, seed)
		took := time.Since(c.start)
		stop()
		background.Wait()

		found := inspect(t, ledger, bus.InspectOptions{Acknowledged: c.acknowledged(), Grace: time.Hour})
		for _, f := range found.Findings {
			t.Errorf("found %s", f)
		}
		if len(found.Refused) > 0 {
			t.Errorf("readers refuse %v, and nobody has forged anything", found.Refused)
		}

		began := time.Now()
		answers := map[string]int{}
		for _, x := range c.history {
			answers[fmt.Sprintf("%s %s", x.op, x.answer)]++
		}
		calls := len(c.history)
		c.track()
		c.settle(ledger)
		checked := c.check()
		t.Logf("%d calls about %d bookings in %v, %d step-downs; %d histories checked in %v: %v", calls, len(c.floor), took.Round(time.Millisecond), downs.Load(),
			checked, time.Since(began).Round(time.Millisecond), answers)
		if e.Replicas > 1 && downs.Load() == 0 {
			t.Error("no leader ever stepped down")
		}

		replay, _ := follow(t, k.ledger(t))
		for name, board := range map[string]*booking.Board{"one": one, "another": other, "a new": replay} {
			await(t, ledger, board)
			c.same(name, board, found.Board)
		}
		c.shown(found.Board)
	})
}

// track notes which commands have several calls.
func (c *crowd) track() {
	times := map[booking.CommandID]int{}
	for _, x := range c.history {
		times[x.command]++
	}
	for _, x := range c.history {
		if x.command != "" && times[x.command] > 1 {
			x.track()
		}
	}
}

// settle drops the calls without an answer whose command is not in the ledger once all calls are over: they had no effect on any answer, unless
// it was lost, and then the answers tell. Of a hundred calls that may have happened at any time, or not, nobody could try all orders. What is left
// never ends. The time at which it was stored is no end: it is the leader's when it was sent on, and a new leader may take a second to agree.
func (c *crowd) settle(l *bus.Ledger) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	stored := map[booking.CommandID]bool{}
	for _, o := range c.floor {
		h, err := l.Load(ctx, o.id, booking.Fresh)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range h.Events {
			stored[e.Command] = true
		}
	}
	c.history = slices.DeleteFunc(c.history, func(x *call) bool { return x.answer == unknown && !stored[x.command] })
}

// A history is the calls that concern one booking or one rider, and what they are held against.
type history struct {
	of    string
	model porcupine.NondeterministicModel
	calls []*call
}

// check holds the history of every booking and of every rider against the specification, and returns how many there were.
func (c *crowd) check() int {
	all := c.histories()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, h := range all {
		group.Go(func() error {
			c.checkOne(h)
			return nil
		})
	}
	_ = group.Wait()
	return len(all)
}

func describeState(state any) string { return fmt.Sprintf("%+v", state) }
func describeCall(in, _ any) string  { return in.(*call).String() }

// histories returns all histories there are to check.
func (c *crowd) histories() []history {
	byBooking := map[booking.ID][]*call{}
	var all []*call
	add := func(x *call) {
		byBooking[x.id] = append(byBooking[x.id], x)
		all = append(all, x)
	}
	for _, x := range c.history {
		add(x)
		if x.answer == ok && x.first != x.begin { // a retry is shown the booking as it was at some moment since the first try
			add(&call{client: x.client, op: opShow, id: x.id, actor: x.actor, first: x.first, begin: x.first, end: x.end, got: x.got})
		}
	}
	hashing := maphash.MakeSeed()
	var hs []history
	for id, calls := range byBooking {
		hs = append(hs, history{"booking " + string(id), porcupine.NondeterministicModel{
			Init:          func() []any { return []any{ride{}} },
			Step:          func(state, in, _ any) []any { return state.(ride).next(in.(*call)) },
			Hash:          func(state any) uint64 { return maphash.Comparable(hashing, state.(ride)) },
			DescribeState: describeState, DescribeOperation: describeCall,
		}, calls})
	}
	for _, d := range c.riders {
		had := map[booking.ID]bool{}
		for _, x := range all {
			if x.begins(d.ID) {
				had[x.id] = true
			}
		}
		ids := slices.Collect(maps.Keys(had))
		var calls []*call
		for _, x := range all {
			if x.concerns(d.ID, ids) {
				calls = append(calls, x)
			}
		}
		hs = append(hs, history{"rider " + d.ID, porcupine.NondeterministicModel{
			Init:          func() []any { return []any{duty{}} },
			Step:          func(state, in, _ any) []any { return state.(duty).next(in.(*call), d.ID) },
			Hash:          func(state any) uint64 { return maphash.Comparable(hashing, state.(duty)) },
			DescribeState: describeState, DescribeOperation: describeCall,
		}, calls})
	}
	return hs
}

// checkOne fails the test unless there is an order of a history's calls, none before another that had ended when it began, in which the
// specification answers as they were answered.
func (c *crowd) checkOne(h history) {
	began := time.Now()
	result, info := h.verdict()
	if took := time.Since(began); took > time.Second {
		c.t.Logf("%s took %v: %d calls", h.of, took.Round(time.Millisecond), len(h.calls))
	}
	if result == porcupine.Ok {
		return
	}
	slices.SortFunc(h.calls, func(a, b *call) int { return int(a.begin - b.begin) })
	var lines strings.Builder
	for _, x := range h.calls[:min(len(h.calls), 200)] {
		fmt.Fprintln(&lines, x)
	}
	path := filepath.Join(c.t.ArtifactDir(), strings.ReplaceAll(h.of, " ", "-")+".html")
	c.t.Errorf("the history of %s is not linearizable (%s); a picture of it is in %s (with -artifacts):\n%s", h.of, result, path, lines.String())
	if err := porcupine.VisualizePath(h.model.ToModel(), info, path); err != nil {
		c.t.Log(err)
	}
}

// verdict holds a history against its specification.
func (h history) verdict() (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var ops []porcupine.Operation
	for _, x := range h.calls {
		ops = append(ops, porcupine.Operation{ClientId: x.client, Input: x, Call: x.begin, Return: x.end})
	}
	return porcupine.CheckOperationsVerbose(h.model.ToModel(), ops, time.Minute)
}

// acknowledged returns the events that somebody was told of.
func (c *crowd) acknowledged() []bus.Acknowledged {
	var all []bus.Acknowledged
	for _, x := range c.history {
		if x.answer != ok || x.op == opShow {
			continue
		}
		a := bus.Acknowledged{Booking: x.id, Kind: x.kind(), Actor: x.actor.ID}
		switch x.op {
		case opBook, opAccept: // perhaps by another command of the same person
		default:
			a.Command = x.command
		}
		all = append(all, a)
	}
	return all
}

// kind returns the kind of event that a call causes, where it succeeds.
func (c *call) kind() booking.Kind {
	return map[op]booking.Kind{
		opBook: booking.Requested, opAccept: booking.Accepted, opArrive: booking.Arrived, opStart: booking.Started, opComplete: booking.Completed,
		opCancel: booking.Cancelled, opRelease: booking.Released, opExpire: booking.Expired, opRate: booking.Rated,
	}[c.op]
}

// same fails the test unless two boards say the same, asked in every way.
func (c *crowd) same(name string, got, want *booking.Board) {
	equal := func(what string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			c.t.Errorf("%s board says of %s\n %+v, and a fresh replay\n %+v", name, what, got, want)
		}
	}
	const many = 1 << 20
	at := c.start.Add(time.Minute)
	all := want.Newest(many, 0) // what is asked otherwise is told from this
	equal("everything", got.Newest(many, 0), all)
	of := func(is func(b booking.Booking) bool) []booking.Booking {
		var some []booking.Booking
		for _, b := range all {
			if is(b) {
				some = append(some, b)
			}
		}
		return some
	}
	byOpening := func(a, b booking.Booking) int { return int(a.OpenedSeq) - int(b.OpenedSeq) }
	open := of(func(b booking.Booking) bool { return b.State == booking.StateOpen && !b.Overdue(at) })
	slices.SortFunc(open, byOpening)
	equal("what is open", got.Open(at, many, 0), slices.Concat([]booking.Booking{}, open))
	overdue := of(func(b booking.Booking) bool { return b.Overdue(at) })
	slices.SortFunc(overdue, byOpening)
	equal("what is overdue", got.Overdue(at), overdue)
	for _, d := range c.riders {
		r := booking.RiderID(d.ID)
		active := of(func(b booking.Booking) bool { return (ride{state: b.State, rider: string(b.Rider)}).isWith(d.ID) })
		equal("a rider", got.OfRider(r, many, 0), of(func(b booking.Booking) bool { return b.Rider == r }))
		equal("what a rider is under way for", got.Active(r), active)
		equal("whether a rider is busy", got.Busy(r), len(active) > 0)
	}
	for _, b := range all {
		equal("a user", got.OfUser(b.User, many, 0), of(func(x booking.Booking) bool { return x.User == b.User }))
		one, _ := got.Get(b.ID)
		equal("a booking", one, b)
	}
}

// shown fails the test unless every instance shows every booking as a board has it.
func (c *crowd) shown(board *booking.Board) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for i, b := range board.Newest(1<<20, 0) {
		got, err := c.desks[i%len(c.desks)][0].Show(ctx, b.ID)
		if err != nil || !reflect.DeepEqual(got, b) {
			c.t.Errorf("a desk shows %+v (%v), and the board %+v", got, err, b)
		}
	}
}
