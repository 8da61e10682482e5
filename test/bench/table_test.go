package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// crowds are how many clients work at once.
var crowds = []int{1, 8, 32, 128}

// most is the number of clients for everything but /book.
const most = 32

// BenchmarkTable prints the table of docs/performance.md. With -before it compares everything with
// the same of another commit, and with -env alone with the same without it. Otherwise it compares
// /book with the bare handler, and rides with /book.
func BenchmarkTable(b *testing.B) {
	if !slices.ContainsFunc([]task{bookTask, acceptTask, rideTask}, wanted) {
		b.Fatalf("There is no task %q. -only takes %q, %q or %q.", *only, bookTask.name, acceptTask.name, rideTask.name)
	}
	var our, their *house
	say("%s\n\n%s", machine(), header)
	var book []line
	var notes []string
	whole := *only == ""
	for _, when := range []string{always, lazily} {
		// A new folder, since every open booking reserves room in the ledger.
		our = newHouse(b, "this", programs())
		if name, folder := beside(); name != "" {
			their = newHouse(b, name, folder)
		}
		s := our.open(b, when)
		var other *system
		if their != nil {
			other = their.open(b, when)
		} else {
			other = bare(b, s, when)
		}
		for _, n := range crowds {
			if !wanted(bookTask) {
				continue
			}
			l := compare(b, when, n, side{s, bookTask}, side{other, bookTask})
			say("%s", l)
			if book = append(book, l); n != most || !whole {
				continue
			}
			all, _ := l.sum(0)
			notes = append(notes, fmt.Sprintf("Sync %s, the load itself: %d µs of processor time for each booking.", when,
				all.load.Microseconds()/int64(max(all.done, 1))), s.halfRate(b, l))
		}
		for _, t := range []task{acceptTask, rideTask} {
			if !wanted(t) {
				continue
			}
			beside := side{s, bookTask}
			if their != nil {
				beside = side{other, t}
			}
			l := compare(b, when, most, side{s, t}, beside)
			say("%s", l)
			if whole {
				notes = append(notes, s.halfRate(b, l))
			}
		}
		if whole {
			notes = append(notes, s.lag(b, when), s.audit(b, when))
			if their != nil {
				notes = append(notes, other.lag(b, when))
			}
		}
		our.accepted = s.accepted
		s.end(b)
		other.end(b)
	}
	if whole {
		notes = append(notes, our.starts(b))
	}
	if *spans != "" {
		notes = append(notes, fmt.Sprintf("The collector has taken %d kB of spans.", collected.Load()/1000))
	}
	say("")
	for _, n := range notes {
		say("- %s", n)
	}
	if whole {
		draw(b, ratesOf(book)...)
	}
	b.ReportMetric(0, "ns/op")
}

// wanted reports whether the table has a task.
func wanted(t task) bool { return *only == "" || t.name == *only }

// A house is a data folder, and the programs that use it.
type house struct {
	name, programs, data string
	people               people // once it has been opened
	accepted             []ride // before it was opened the last time
}

func newHouse(b *testing.B, name, programs string) *house {
	return &house{name: name, programs: programs, data: filepath.Join(b.TempDir(), "data")}
}

// open starts pillion on the folder.
func (h *house) open(b *testing.B, when string, args ...string) *system {
	b.Helper()
	s := pillion(b, h.name, h.programs, h.data, when, h.people, args...)
	h.people, s.accepted = s.people, append(h.accepted, s.accepted...)
	return s
}

// starts measures the time from start to ready on a folder that has been used, and the memory then.
func (h *house) starts(b *testing.B) string {
	b.Helper()
	var took, resident []float64
	for range *pairs {
		s := h.open(b, always)
		took = append(took, s.started.Seconds())
		s.resume(b)
		resident = append(resident, s.processes[0].metrics(b)["process_resident_memory_bytes"])
		s.end(b)
	}
	return fmt.Sprintf("Start to ready on this folder: %.2f s; resident memory then: %.0f MiB (medians of %d).",
		median(took), median(resident)/mib, *pairs)
}

// halfRate measures the first side of a line at half of its rate, where tasks are due at even times
// however slow earlier ones are.
func (s *system) halfRate(b *testing.B, l line) string {
	b.Helper()
	rate := median(l.rates(0)) / 2
	t := s.take(b, pace{clients: min(256, *crowd), length: 5 * *turnTime, rate: rate}, l.task)
	q := func(p float64) float64 { return quantile(t.latency, p) }
	return fmt.Sprintf("Sync %s, %s, %s a second, which is half of the highest rate, from when each was due: "+
		"p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms.", l.when, l.task.name, number(rate), q(50), q(99), q(99.9))
}

// lag measures how late the feed is at the highest rate of bookings.
func (s *system) lag(b *testing.B, when string) string {
	b.Helper()
	s.resume(b)
	type told struct{ at, heard time.Time }
	var mu sync.Mutex
	var all []told
	ctx, cancel := context.WithTimeout(b.Context(), wait.Patience)
	defer cancel()
	err := feed.Watch(ctx, s.operator, bus.FeedBookingPrefix+">", func(e feed.Event) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, told{e.At, time.Now()})
	})
	if err != nil {
		b.Fatal(err)
	}
	t := s.take(b, pace{clients: most, length: 5 * *turnTime}, bookTask)
	mu.Lock()
	defer mu.Unlock()
	late := newHistogram()
	var last time.Time
	for _, e := range all {
		if e.at.Before(t.began) { // to warm up
			continue
		}
		last = e.heard
		if err := late.RecordValue(max(e.heard.Sub(e.at).Microseconds(), 0)); err != nil {
			b.Fatal(err)
		}
	}
	return fmt.Sprintf("Sync %s, the feed of %s at the highest rate: %.0f events a second, %.1f ms late at "+
		"the median, %.1f ms at p99; everything was done %.2f s after the last booking.", when, s.name,
		float64(late.TotalCount())/last.Sub(t.began).Seconds(), quantile(late, 50), quantile(late, 99),
		t.behind.Seconds())
}

// audit reads the whole ledger, verifies it, and holds it against all acceptances that were
// acknowledged. It fails the benchmark unless each is there once.
func (s *system) audit(b *testing.B, when string) string {
	b.Helper()
	s.resume(b)
	defer s.pause(b)
	anchor, err := trustkey.LoadAnchor(filepath.Join(s.keys, trustkey.AnchorFile), nil)
	if err != nil {
		b.Fatal(err)
	}
	if anchor.Ready() != nil {
		return fmt.Sprintf("Sync %s: not audited, because that commit signs no key set.", when)
	}
	var acks []inspect.Acknowledged
	for _, r := range s.accepted {
		acks = append(acks, inspect.Acknowledged{Booking: booking.ID(r.booking), Kind: booking.Accepted,
			Actor: r.rider.id})
	}
	found, err := inspect.Run(b.Context(), s.ledger(b, anchor), inspect.Options{Acknowledged: acks})
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range found.Findings {
		b.Errorf("found %s", f)
	}
	if n := found.Events[booking.Accepted]; n != len(acks) {
		b.Errorf("the ledger has %d acceptances, and %d were acknowledged", n, len(acks))
	}
	return fmt.Sprintf("Sync %s, audit of %d messages: %d acceptances by different people, each stored once; "+
		"%d findings.", when, found.Last, len(acks), len(found.Findings)+found.More)
}

// ledger opens the ledger with the operator's rights.
func (s *system) ledger(b *testing.B, anchor *trustkey.Anchor) *ledger.Ledger {
	b.Helper()
	watched, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	epoch := new(trust.Epoch)
	known := trust.NewKeyWatch(s.operator, anchor, time.Second, epoch)
	revoked := trust.NewRevocationWatch(s.operator, anchor, epoch)
	done := make(chan error, 2)
	go func() { done <- known.Run(watched) }()
	go func() { done <- revoked.Run(watched) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, <-done); err != nil {
			b.Error(err)
		}
	})
	verifier, err := token.NewVerifier(token.Config{Keys: known, Revocations: revoked})
	if err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(s.operator, ledger.Options{Source: "/bench", Tokens: verifier, Epoch: epoch})
	if err != nil {
		b.Fatal(err)
	}
	return l
}
