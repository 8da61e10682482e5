package live

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/internal/retry"
)

const (
	history   = 10_000 // messages before the start of the process that count
	remember  = 10_000 // bookings that are counted, the latest ones
	listed    = 256    // events that a stream begins with, or resumes from
	measured  = 1_000  // acceptances whose times are kept
	tryAgain  = time.Second
	precision = 1e5 // of a position: a metre
)

// stages are how far a booking gets, in order.
var stages = [...]booking.Kind{booking.Requested, booking.Accepted, booking.Arrived, booking.Started, booking.Completed,
	booking.Rated}

// A tally counts verified events.
type tally struct {
	mu       sync.Mutex
	bookings map[booking.ID]*counted
	order    []booking.ID // the longest known first
	states   map[booking.State]int
	reached  [len(stages)]int
	waits    []time.Duration // from the request to the first acceptance, the latest last
	events   []event
	grown    chan struct{} // closed when there are more events
}

// counted is what a tally knows of a booking.
type counted struct {
	state     booking.State
	requested time.Time
	stage     int // the index of the last of stages that it has reached
}

func newTally() *tally {
	return &tally{
		bookings: make(map[booking.ID]*counted), states: make(map[booking.State]int), grown: make(chan struct{}),
	}
}

// run counts what a follower has verified until ctx ends.
func (t *tally) run(ctx context.Context, f *ledger.Follower) error {
	for f.Ready(ctx) != nil {
		if !retry.Sleep(ctx, tryAgain) {
			return nil
		}
	}
	var from uint64
	if last := f.Board().Seq(); last > history {
		from = last - history
	}
	changes := f.Subscribe(from)
	for ctx.Err() == nil {
		found, err := changes.Take(ctx)
		for _, c := range found {
			t.add(c)
		}
		switch {
		case err != nil:
			retry.Sleep(ctx, tryAgain)
		case len(found) == 0:
			select {
			case <-changes.More():
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// add counts a change.
func (t *tally) add(c *ledger.Change) {
	e, after := &c.Event, &c.After
	t.mu.Lock()
	defer t.mu.Unlock()
	b, known := t.bookings[e.Booking]
	if !known {
		t.forget()
		b = &counted{requested: after.RequestedAt}
		t.bookings[e.Booking], t.order = b, append(t.order, e.Booking)
		t.reached[0]++
	} else {
		t.states[b.state]--
	}
	b.state = after.State
	t.states[b.state]++
	if stage := slices.Index(stages[:], e.Kind.Public()); stage > b.stage {
		for i := b.stage + 1; i <= stage; i++ {
			t.reached[i]++
		}
		if b.stage < 1 && e.Kind == booking.Accepted {
			t.waits = append(t.waits[max(0, len(t.waits)-measured+1):], e.At.Sub(b.requested))
		}
		b.stage = stage
	}
	line := event{Seq: e.Seq, At: jsontime.Time(e.At), Booking: e.Booking, N: e.N, Event: e.Kind, State: after.State,
		Role: e.Actor.Role}
	if after.State == booking.StateOpen {
		line.Pickup, line.Dropoff = after.Pickup, after.Dropoff
	}
	if len(t.events) >= 2*listed { // so seldom that it costs next to nothing
		t.events = slices.Clone(t.events[listed:])
	}
	t.events = append(t.events, line)
	close(t.grown)
	t.grown = make(chan struct{})
}

// forget makes room for a booking.
func (t *tally) forget() {
	if len(t.order) < remember {
		return
	}
	old := t.bookings[t.order[0]]
	t.states[old.state]--
	for i := range old.stage + 1 {
		t.reached[i]--
	}
	delete(t.bookings, t.order[0])
	t.order = t.order[1:]
}

// after returns the events after a sequence, of the last ones, and a channel that closes when there
// are more.
func (t *tally) after(seq uint64) ([]event, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := max(0, len(t.events)-listed)
	for from < len(t.events) && t.events[from].Seq <= seq {
		from++
	}
	return slices.Clone(t.events[from:]), t.grown
}

// A figures is what the board counts, as JSON.
type figures struct {
	Counts map[booking.State]int `json:"counts"`
	Riders struct {
		Online int `json:"online"`
		Busy   int `json:"busy"`
	} `json:"riders"`
	Accept struct {
		Count int     `json:"count"`
		P50   float64 `json:"p50"` // seconds
		P95   float64 `json:"p95"`
	} `json:"accept"`
	Funnel map[booking.Kind]int `json:"funnel"` // bookings that have got there
	City   *cityView            `json:"city,omitempty"`
}

func (t *tally) figures() figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := figures{Counts: make(map[booking.State]int), Funnel: make(map[booking.Kind]int)}
	for _, s := range booking.States()[1:] {
		f.Counts[s] = t.states[s]
	}
	for i, stage := range stages {
		f.Funnel[stage] = t.reached[i]
	}
	if waits := slices.Sorted(slices.Values(t.waits)); len(waits) > 0 {
		at := func(part float64) float64 { return waits[int(part*float64(len(waits)-1))].Seconds() }
		f.Accept.Count, f.Accept.P50, f.Accept.P95 = len(waits), at(0.5), at(0.95)
	}
	return f
}

func round(degrees float64) float64 { return math.Round(degrees*precision) / precision }
