package bookingtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// The actors of these tests.
var (
	Owner    = booking.Actor{ID: "owner", Role: booking.User}
	Stranger = booking.Actor{ID: "stranger", Role: booking.User}
	TheRider = booking.Actor{ID: "rider", Role: booking.Rider}  // has the booking, if anyone has
	Other    = booking.Actor{ID: "other", Role: booking.Rider}  // is no party to the booking
	Former   = booking.Actor{ID: "former", Role: booking.Rider} // had the booking and released it
	Service  = booking.Actor{ID: "service", Role: booking.Service}
)

// Everybody is all actors.
var Everybody = []booking.Actor{Owner, Stranger, TheRider, Other, Former, Service}

// Ride is the booking of all stories.
const Ride = booking.ID("ride")

// Noon is when a story begins. Deadline is the deadline of the booking, also after a release.
var (
	Noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	Deadline = Noon.Add(2 * time.Minute)
)

// A Story numbers and stamps events as a log would.
type Story struct {
	Events []booking.Event
	N      int    // of the last event
	Seq    uint64 // of the last event
}

// Store returns e as a log would store it, a second after the event before.
func (s *Story) Store(e booking.Event) booking.Event {
	s.N++
	s.Seq++
	e.ID = booking.EventID(fmt.Sprintf("event-%d", s.Seq))
	e.Booking, e.N, e.Command, e.Seq = Ride, s.N, booking.CommandID(fmt.Sprintf("command-%d", s.Seq)), s.Seq
	e.At = Noon.Add(time.Duration(s.Seq) * time.Second)
	e.Decided = e.At.Add(-time.Millisecond)
	return e
}

// Step is one event of a story.
type Step struct {
	Kind  booking.Kind
	Actor booking.Actor
}

// Event returns an event with valid details for its kind.
func (s Step) Event() booking.Event {
	e := booking.Event{Kind: s.Kind, Actor: s.Actor}
	switch s.Kind {
	case booking.Requested:
		e.Pickup, e.Dropoff = &booking.Place{Lat: 12.97, Lng: 77.59}, &booking.Place{Lat: 13.2, Lng: 77.7}
		e.Quote = &booking.Quote{Metres: 36_700, Minutes: 101, Fare: 36_345, Currency: "INR"}
		e.Deadline = Deadline
	case booking.Released, booking.OperatorReleased:
		e.Deadline = Deadline
		e.Reason = "puncture"
	case booking.Cancelled, booking.OperatorCancelled:
		e.Reason = "rain"
	case booking.Rated, booking.RiderRated:
		e.Stars = 4
	}
	return e
}

// Tell returns the events of some steps.
func Tell(steps ...Step) []booking.Event {
	var s Story
	for _, st := range steps {
		s.Events = append(s.Events, s.Store(st.Event()))
	}
	return s.Events
}

// Replay folds events. It fails the test unless each of them follows.
func Replay(t testing.TB, events []booking.Event) booking.Booking {
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

// Fold folds events, and skips those that do not follow. It ignores positions, which
// [booking.EventSequencer] checks.
func Fold(events []booking.Event) booking.Booking {
	var b booking.Booking
	for _, e := range events {
		if next, err := b.Apply(e); err == nil {
			b = next
		}
	}
	return b
}

// Wants fails the test unless err is want.
func Wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// Given has a story that leads to each state. The Former rider released the booking once.
func Given(more ...Step) []Step {
	return append([]Step{
		{booking.Requested, Owner}, {booking.Accepted, Former}, {booking.Released, Former},
	}, more...)
}

// Taken has a story that leads to each state with a rider.
func Taken(more ...Step) []Step {
	return append(Given(Step{booking.Accepted, TheRider}), more...)
}

// By returns a new command of an actor.
func By(a booking.Actor) booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: a, Proof: "believe me"}
}
