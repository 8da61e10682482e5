package load

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/inspect"
)

// A Phase is a part of a run.
type Phase string

// The phases of a run.
const (
	Registering Phase = "accounts" // the accounts are made
	Loading     Phase = "load"     // bookings are asked for
	Finishing   Phase = "finish"   // what has begun is brought to its end
)

// A Snapshot is how far a run is.
type Snapshot struct {
	Phase    Phase
	Elapsed  time.Duration // of the phase
	Accounts int           // that are logged in
	People   int           // that there are to be

	Booked, Accepted, Completed, Cancelled int // acknowledged so far

	InFlight   int // bookings that are asked for
	Dropped    int // bookings that were due and could not be asked for, because too many were in flight
	Unknown    int // calls without an answer
	Away       int // answers of 503 and 429 that say when to come back
	Violations int
	P99        time.Duration // of bookings, from when they were due
}

// Times are from a microsecond to the longest that anybody is patient; three digits of each are kept.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(time.Hour)
	digits   = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

// record keeps a time, or the longest that can be kept.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), shortest), longest)) // it fails out of bounds
}

// An account of what became of one operation.
type account struct {
	calls   int
	answers map[string]int
	steps   map[Outcome]int
	step    *hdrhistogram.Histogram // from when it was due until it was decided
	call    *hdrhistogram.Histogram // from when a request was sent until it was answered
}

// An acknowledged is what somebody was told is done.
type acknowledged struct {
	inspect.Acknowledged
	role       booking.Role
	owner      string // the user whose booking it is, where that is somebody of this run
	start, end time.Time
}

// violationLimit is how many violations are kept.
const violationLimit = 1000

// A tally counts. It is safe for concurrent use.
type tally struct {
	mu         sync.Mutex
	keep       bool
	calls      []Call
	ops        map[Op]*account
	acks       []acknowledged
	violations []Call
	now        Snapshot
	since      time.Time
	kinds      map[booking.Kind]int
}

func newTally(keep bool) *tally {
	return &tally{keep: keep, ops: make(map[Op]*account), violations: []Call{}, kinds: make(map[booking.Kind]int), now: Snapshot{Phase: Registering}, since: time.Now()}
}

func (t *tally) of(op Op) *account {
	a, ok := t.ops[op]
	if !ok {
		a = &account{answers: make(map[string]int), steps: make(map[Outcome]int), step: newHistogram(), call: newHistogram()}
		t.ops[op] = a
	}
	return a
}

// call counts one call.
func (t *tally) call(c Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(c.Op)
	a.calls++
	a.answers[c.answer()]++
	if c.Status != 0 {
		record(a.call, c.End.Sub(c.Start))
	}
	switch c.Outcome {
	case Unknown, Unreachable:
		t.now.Unknown++
	case Away, Limited:
		t.now.Away++
	case Violation:
		if t.now.Violations++; len(t.violations) < violationLimit {
			t.violations = append(t.violations, c)
		}
	}
	if t.keep {
		t.calls = append(t.calls, c)
	}
}

// answer is what a call is counted as.
func (c Call) answer() string {
	switch {
	case c.Status == 0:
		return string(c.Outcome)
	case c.Code == "":
		return fmt.Sprint(c.Status)
	}
	return fmt.Sprintf("%d %s", c.Status, c.Code)
}

// step counts what a step has come to, by its last call.
func (t *tally) step(last Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(last.Op)
	a.steps[last.Outcome]++
	record(a.step, last.End.Sub(last.Due))
}

func (t *tally) acknowledge(a acknowledged) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acks = append(t.acks, a)
	t.kinds[a.Kind]++
}

func (t *tally) acknowledged() []acknowledged {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.acks)
}

func (t *tally) phase(p Phase, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Phase, t.since = p, at
}

func (t *tally) expect(people int) { t.change(func(s *Snapshot) { s.People = people }) }
func (t *tally) arrived()          { t.change(func(s *Snapshot) { s.Accounts++ }) }
func (t *tally) drop()             { t.change(func(s *Snapshot) { s.Dropped++ }) }
func (t *tally) inFlight(n int)    { t.change(func(s *Snapshot) { s.InFlight += n }) }

func (t *tally) change(f func(*Snapshot)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.now)
}

func (t *tally) snapshot() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.now
	s.Elapsed = time.Since(t.since)
	s.Booked, s.Accepted = t.kinds[booking.Requested], t.kinds[booking.Accepted]
	s.Completed, s.Cancelled = t.kinds[booking.Completed], t.kinds[booking.Cancelled]
	if a, ok := t.ops[Book]; ok {
		s.P99 = time.Duration(a.step.ValueAtQuantile(99))
	}
	return s
}

// report returns the Report of a run that is over.
func (t *tally) report(r *run, began time.Time, lasted time.Duration, seen Watched) *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	rep := &Report{
		Name: r.Name, Seed: r.Seed, Began: began.UTC(), Seconds: lasted.Seconds(), Users: r.Users, Riders: r.Riders, Rate: r.Rate,
		Dropped: t.now.Dropped, Operations: make(map[Op]Operation), Events: maps.Clone(t.kinds), Watched: seen,
		Violations: t.violations, MoreViolations: t.now.Violations - len(t.violations), Calls: t.calls,
	}
	for op, a := range t.ops {
		rep.Operations[op] = Operation{
			Calls: a.calls, Answers: a.answers, Steps: a.steps, Latency: latencyOf(a.step), Answer: latencyOf(a.call),
		}
	}
	for _, a := range t.acks {
		rep.acknowledged = append(rep.acknowledged, a.Acknowledged)
	}
	return rep
}
