package booking_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// The people of these tests.
var (
	owner    = booking.Actor{ID: "owner", Role: booking.User}
	stranger = booking.Actor{ID: "stranger", Role: booking.User}
	rider    = booking.Actor{ID: "rider", Role: booking.Rider}  // has it, where somebody has it
	other    = booking.Actor{ID: "other", Role: booking.Rider}  // has nothing to do with it
	former   = booking.Actor{ID: "former", Role: booking.Rider} // had it and has released it
	service  = booking.Actor{ID: "service", Role: booking.Service}
)

const ride = booking.ID("ride")

// noon is when everything begins, and deadline until when a rider may accept, at first and after a release.
var (
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	deadline = noon.Add(2 * time.Minute)
)

// A teller tells stories: it gives events what a log would give them.
type teller struct {
	events []booking.Event
	n      int
	seq    uint64
}

// stored returns e as a log would store it next, a second after the one before.
func (s *teller) stored(e booking.Event) booking.Event {
	s.n++
	s.seq++
	e.ID = booking.EventID(fmt.Sprintf("event-%d", s.seq))
	e.Booking, e.N, e.Command, e.Seq = ride, s.n, booking.CommandID(fmt.Sprintf("command-%d", s.seq)), s.seq
	e.At = noon.Add(time.Duration(s.seq) * time.Second)
	e.Decided = e.At.Add(-time.Millisecond)
	return e
}

// step is one event of a story.
type step struct {
	kind  booking.Kind
	actor booking.Actor
}

// event returns an event with details that are right for its kind.
func (s step) event() booking.Event {
	e := booking.Event{Kind: s.kind, Actor: s.actor}
	switch s.kind {
	case booking.Requested:
		e.Pickup, e.Dropoff = &booking.Place{Lat: 12.97, Lng: 77.59}, &booking.Place{Lat: 13.2, Lng: 77.7}
		e.Quote = &booking.Quote{Metres: 36_700, Minutes: 101, Fare: 36_345, Currency: "INR"}
		e.Deadline = deadline
	case booking.Released:
		e.Deadline = deadline
		e.Reason = "puncture"
	case booking.Cancelled:
		e.Reason = "rain"
	case booking.Rated:
		e.Stars = 4
	}
	return e
}

// tell returns the events of a story.
func tell(steps ...step) []booking.Event {
	var s teller
	for _, st := range steps {
		s.events = append(s.events, s.stored(st.event()))
	}
	return s.events
}

// replay folds events, every one of which must follow.
func replay(t testing.TB, events []booking.Event) booking.Booking {
	t.Helper()
	var b booking.Booking
	for i, e := range events {
		next, err := b.Apply(e)
		if err != nil {
			t.Fatalf("event %d, %s by %s, after %s: %v", i+1, e.Kind, e.Actor.ID, b.State, err)
		}
		b = next
	}
	return b
}

// wants fails the test unless err is want; nil wants success.
func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// given are the stories' beginnings: the former rider has released it once.
func given(more ...step) []step {
	return append([]step{
		{booking.Requested, owner}, {booking.Accepted, former}, {booking.Released, former},
	}, more...)
}

func taken(more ...step) []step {
	return append(given(step{booking.Accepted, rider}), more...)
}
