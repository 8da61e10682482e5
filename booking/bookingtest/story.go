package bookingtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// The people of these tests.
var (
	Owner    = booking.Actor{ID: "owner", Role: booking.User}
	Stranger = booking.Actor{ID: "stranger", Role: booking.User}
	TheRider = booking.Actor{ID: "rider", Role: booking.Rider}  // has it, where somebody has it
	Other    = booking.Actor{ID: "other", Role: booking.Rider}  // has nothing to do with it
	Former   = booking.Actor{ID: "former", Role: booking.Rider} // had it and has released it
	Service  = booking.Actor{ID: "service", Role: booking.Service}
)

// Everybody are all of them.
var Everybody = []booking.Actor{Owner, Stranger, TheRider, Other, Former, Service}

// Ride is the booking of all stories.
const Ride = booking.ID("ride")

// Noon is when everything begins, and Deadline until when a rider may accept, at first and after a
// release.
var (
	Noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	Deadline = Noon.Add(2 * time.Minute)
)

// A Story gives events what a log would give them.
type Story struct {
	Events []booking.Event
	N      int    // of the last event
	Seq    uint64 // of the last event
}

// Store returns e as a log would store it next, a second after the one before.
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

// Event returns an event with details that are right for its kind.
func (s Step) Event() booking.Event {
	e := booking.Event{Kind: s.Kind, Actor: s.Actor}
	switch s.Kind {
	case booking.Requested:
		e.Pickup, e.Dropoff = &booking.Place{Lat: 12.97, Lng: 77.59}, &booking.Place{Lat: 13.2, Lng: 77.7}
		e.Quote = &booking.Quote{Metres: 36_700, Minutes: 101, Fare: 36_345, Currency: "INR"}
		e.Deadline = Deadline
	case booking.Released:
		e.Deadline = Deadline
		e.Reason = "puncture"
	case booking.Cancelled:
		e.Reason = "rain"
	case booking.Rated:
		e.Stars = 4
	}
	return e
}

// Tell returns the events of a story.
func Tell(steps ...Step) []booking.Event {
	var s Story
	for _, st := range steps {
		s.Events = append(s.Events, s.Store(st.Event()))
	}
	return s.Events
}

// Replay folds events, every one of which must follow.
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

// Wants fails the test unless err is want; nil wants success.
func Wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// Given are the stories' beginnings: the Former rider has released it once.
func Given(more ...Step) []Step {
	return append([]Step{
		{booking.Requested, Owner}, {booking.Accepted, Former}, {booking.Released, Former},
	}, more...)
}

// Taken are such beginnings, and the rider has accepted then.
func Taken(more ...Step) []Step {
	return append(Given(Step{booking.Accepted, TheRider}), more...)
}

// By returns a new command of an actor.
func By(a booking.Actor) booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: a, Proof: "believe me"}
}
