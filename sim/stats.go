package sim

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

// A Phase is a phase of a run.
type Phase string

// The phases of a run.
const (
	Registering Phase = "accounts" // creating the accounts
	Playing     Phase = "play"     // booking
	Finishing   Phase = "finish"   // finishing what has begun
)

// A Snapshot is the progress of a run.
type Snapshot struct {
	Phase    Phase
	Elapsed  time.Duration // of the phase
	Accounts int           // logged in so far
	People   int           // all accounts

	Booked, Accepted, Completed, Cancelled int // acknowledged so far

	InFlight   int // booking requests
	Dropped    int // due bookings that Config.InFlight prevented
	Unknown    int // calls without an answer
	Away       int // answers of 503 and 429 with Retry-After
	Violations int
	P99        time.Duration // of bookings, from when they were due
}

// Times are from a microsecond to the longest that anybody is patient; three digits of each are
// kept, and one if there is no report.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(time.Hour)
)

func newHistogram(c Config) *hdrhistogram.Histogram {
	if c.Forget {
		return hdrhistogram.New(shortest, longest, 1)
	}
	return hdrhistogram.New(shortest, longest, 3)
}

// record adds a duration to h. A duration out of bounds counts as the nearest bound.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), shortest), longest)) // it fails only out of bounds
}

// opStats counts the results of one operation.
type opStats struct {
	calls   int
	answers map[string]int
	steps   map[Outcome]int
	step    *hdrhistogram.Histogram // from the due time to the final outcome
	call    *hdrhistogram.Histogram // from the request to the answer
}

// An acknowledged is an event that a successful answer has promised.
type acknowledged struct {
	inspect.Acknowledged
	role       booking.Role
	rider      *rider // who has caused it, if it was a rider
	fare       int64  // of an acceptance; 0: unknown
	owner      string // the ID of the booking's user, or "" if that is not a user of this run
	start, end time.Time
}

// violationLimit bounds the violations in a report.
const violationLimit = 1000

// stats counts the results of a run. It is safe for concurrent use.
type stats struct {
	happened func(acknowledged) // is told of every acknowledged event
	config   Config

	mu         sync.Mutex
	calls      []Call
	ops        map[Op]*opStats
	acks       []acknowledged
	violations []Call
	now        Snapshot
	since      time.Time
	kinds      map[booking.Kind]int
}

func newStats(c Config) *stats {
	return &stats{
		config: c, ops: make(map[Op]*opStats), violations: []Call{}, kinds: make(map[booking.Kind]int),
		now: Snapshot{Phase: Registering}, since: time.Now(),
	}
}

func (st *stats) of(op Op) *opStats {
	a, ok := st.ops[op]
	if !ok {
		a = &opStats{answers: make(map[string]int), steps: make(map[Outcome]int), step: newHistogram(st.config),
			call: newHistogram(st.config)}
		st.ops[op] = a
	}
	return a
}

// call counts one call.
func (st *stats) call(c Call) {
	st.mu.Lock()
	defer st.mu.Unlock()
	a := st.of(c.Op)
	a.calls++
	a.answers[c.answer()]++
	if c.Status != 0 {
		record(a.call, c.End.Sub(c.Start))
	}
	switch c.Outcome {
	case Unknown, Unreachable:
		st.now.Unknown++
	case Away, Limited:
		st.now.Away++
	case Violation:
		if st.now.Violations++; len(st.violations) < violationLimit {
			st.violations = append(st.violations, c)
		}
	}
	if st.config.Record {
		st.calls = append(st.calls, c)
	}
}

// answer returns the key of a call in Operation.Answers.
func (c Call) answer() string {
	switch {
	case c.Status == 0:
		return string(c.Outcome)
	case c.Code == "":
		return fmt.Sprint(c.Status)
	}
	return fmt.Sprintf("%d %s", c.Status, c.Code)
}

// step counts a step by its last call.
func (st *stats) step(last Call) {
	st.mu.Lock()
	defer st.mu.Unlock()
	a := st.of(last.Op)
	a.steps[last.Outcome]++
	record(a.step, last.End.Sub(last.Due))
}

func (st *stats) acknowledge(a acknowledged) {
	st.happened(a)
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.config.Forget {
		st.acks = append(st.acks, a)
	}
	st.kinds[a.Kind]++
}

func (st *stats) acknowledged() []acknowledged {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.acks)
}

func (st *stats) phase(p Phase, at time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.now.Phase, st.since = p, at
}

func (st *stats) expect(people int) { st.change(func(s *Snapshot) { s.People = people }) }
func (st *stats) arrived()          { st.change(func(s *Snapshot) { s.Accounts++ }) }
func (st *stats) drop()             { st.change(func(s *Snapshot) { s.Dropped++ }) }
func (st *stats) inFlight(n int)    { st.change(func(s *Snapshot) { s.InFlight += n }) }

func (st *stats) change(f func(*Snapshot)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.now)
}

func (st *stats) snapshot() Snapshot {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.now
	s.Elapsed = time.Since(st.since)
	s.Booked, s.Accepted = st.kinds[booking.Requested], st.kinds[booking.Accepted]
	s.Completed, s.Cancelled = st.kinds[booking.Completed], st.kinds[booking.Cancelled]
	if a, ok := st.ops[Book]; ok {
		s.P99 = time.Duration(a.step.ValueAtQuantile(99))
	}
	return s
}

// report returns the Report of a finished run.
func (st *stats) report(r *run, lasted time.Duration, seen Watched) *Report {
	figures := r.figures()
	st.mu.Lock()
	defer st.mu.Unlock()
	rep := &Report{
		Name: r.Name, Seed: r.Seed, Began: r.began.UTC(), Seconds: lasted.Seconds(),
		Users: r.Scene.Users, Riders: len(r.Scene.Riders), Speed: r.Speed, Figures: figures,
		Dropped: st.now.Dropped, Operations: make(map[Op]Operation), Events: maps.Clone(st.kinds), Watched: seen,
		Violations: st.violations, MoreViolations: st.now.Violations - len(st.violations), Calls: st.calls,
	}
	for op, a := range st.ops {
		rep.Operations[op] = Operation{
			Calls: a.calls, Answers: a.answers, Steps: a.steps, Latency: latencyOf(a.step), Answer: latencyOf(a.call),
		}
	}
	for _, a := range st.acks {
		rep.acknowledged = append(rep.acknowledged, a.Acknowledged)
	}
	return rep
}
