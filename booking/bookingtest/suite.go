package bookingtest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// An Env is a Log under test. Its parts must be safe for concurrent use.
type Env struct {
	Log booking.Log
	// Other is the same log, opened by another process. Default: Log.
	Other booking.Log
	// As returns a new actor for each call, with a credential that the log's readers accept.
	As func(role booking.Role) (booking.Actor, string)
	// Forge stores a message that every reader refuses, at position (n, k) of a booking.
	Forge func(ctx context.Context, id booking.ID, n int, k booking.Kind) error
}

// LogSuite tests an implementation of booking.Log. It calls open once for each test. open may
// return the same log each time, because each test uses bookings of its own. The log's clock must
// be right to an hour.
func LogSuite(t *testing.T, open func(t *testing.T) Env) {
	for _, test := range []struct {
		name string
		run  func(s *suite)
	}{
		{"an unknown booking has the zero history", (*suite).unknown},
		{"a history reads back what was appended", (*suite).readsBack},
		{"every kind of event reads back", (*suite).everyKind},
		{"a new booking must be new", (*suite).mustBeNew},
		{"the guard moves with every append", (*suite).guardMoves},
		{"several events of a command are stored in their order", (*suite).inOrder},
		{"several events of a command are stored all or not at all", (*suite).allOrNone},
		{"what does not follow is not stored", (*suite).mustFollow},
		{"no event is no append", (*suite).nothing},
		{"a refused message on the next position is stepped over", (*suite).stepsOver},
		{"a refused message moves the guard", (*suite).forgeryMoves},
		{"a refused message is on the first position", (*suite).forgedFirst},
		{"a thousand refused messages are stepped over", (*suite).thousand},
		{"of 32 appenders exactly one wins", (*suite).race},
		{"a rider is engaged in what was accepted last", (*suite).engages},
		{"who was engaged meanwhile is not engaged again", (*suite).engagedMeanwhile},
		{"of 16 acceptances by one rider exactly one is stored", (*suite).oneRide},
		{"riders and bookings, all at once", (*suite).wave},
		{"a fresh read reaches every append before it", (*suite).fresh},
		{"what is returned can be changed", (*suite).separate},
		{"a context that has ended stores nothing", (*suite).cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, Env: open(t), id: booking.ID(booking.NewID())}
			if s.Other == nil {
				s.Other = s.Log
			}
			test.run(s)
		})
	}
}

// A suite is the state of one test, which has one booking.
type suite struct {
	*testing.T
	Env
	id booking.ID
}

// command returns a new command of a new actor.
func (s *suite) command(role booking.Role) booking.Command {
	s.Helper()
	actor, proof := s.As(role)
	return again(booking.Command{Actor: actor, Proof: proof})
}

// again returns another command of the same actor.
func again(c booking.Command) booking.Command {
	c.ID = booking.CommandID(booking.NewID())
	return c
}

// event returns an event of c's actor.
func event(c booking.Command, k booking.Kind, d ...booking.Details) booking.Event {
	e := booking.Event{Kind: k, Actor: c.Actor}
	for _, d := range d {
		e.Details = d
	}
	return e
}

func requested(c booking.Command) booking.Event {
	return event(c, booking.Requested, booking.Details{Deadline: time.Now().Add(time.Hour)})
}

// append appends events, and fails the test on an error.
func (s *suite) append(c booking.Command, after booking.History, events ...booking.Event) booking.History {
	s.Helper()
	h, err := s.store(s.Log, c, after, events...)
	if err != nil {
		s.Fatalf("append %v: %v", kinds(events), err)
	}
	return h
}

// store appends events to a log, an acceptance with its rider's present engagement.
func (s *suite) store(
	log booking.Log, c booking.Command, after booking.History, events ...booking.Event,
) (booking.History, error) {
	s.Helper()
	if len(events) == 1 && events[0].Kind == booking.Accepted {
		return log.Engage(s.Context(), c, s.id, after, s.engagement(c), events[0])
	}
	return log.Append(s.Context(), c, s.id, after, events...)
}

// load reads the booking through the other log, and fails the test on an error.
func (s *suite) load(r booking.Reading) booking.History {
	s.Helper()
	h, err := s.Other.Load(s.Context(), s.id, r)
	if err != nil {
		s.Fatalf("load: %v", err)
	}
	return h
}

// moved fails the test unless an append after a history returns ErrMoved.
func (s *suite) moved(c booking.Command, after booking.History, events ...booking.Event) {
	s.Helper()
	h, err := s.store(s.Log, c, after, events...)
	if !errors.Is(err, booking.ErrMoved) {
		s.Errorf("append %v: %v, want ErrMoved", kinds(events), err)
	}
	if reflect.DeepEqual(h, booking.History{}) {
		return
	}
	if now := s.load(booking.Fresh); !reflect.DeepEqual(h, now) {
		s.Errorf("append %v: ErrMoved came with the history\n%+v, want\n%+v", kinds(events), h, now)
	}
}

// unchanged fails the test unless the booking still has a history.
func (s *suite) unchanged(had booking.History) {
	s.Helper()
	if h := s.load(booking.Fresh); !reflect.DeepEqual(h, had) {
		s.Errorf("the history changed\n from %+v\n   to %+v", had, h)
	}
}

func (s *suite) forge(n int, k booking.Kind) {
	s.Helper()
	if err := s.Forge(s.Context(), s.id, n, k); err != nil {
		s.Fatalf("forge %d %s: %v", n, k, err)
	}
}

// check compares a history with the events that were appended, in order.
func (s *suite) check(h booking.History, want ...booking.Event) {
	s.Helper()
	if len(h.Events) != len(want) {
		s.Fatalf("the history has %v, want %v", kinds(h.Events), kinds(want))
	}
	seen := make(map[booking.EventID]bool)
	var last uint64
	for i, e := range h.Events {
		w := want[i]
		if e.Kind != w.Kind || e.Actor != w.Actor || e.Command != w.Command || e.N != w.N || e.Booking != s.id {
			s.Errorf("event %d is %+v, want %+v", i+1, e, w)
		}
		if !e.Deadline.Equal(w.Deadline) || e.Reason != w.Reason || e.Stars != w.Stars ||
			!reflect.DeepEqual(
				e.Pickup,
				w.Pickup,
			) || !reflect.DeepEqual(e.Dropoff, w.Dropoff) || !reflect.DeepEqual(e.Quote, w.Quote) {
			s.Errorf("event %d has details %+v, want %+v", i+1, e.Details, w.Details)
		}
		if !booking.ValidID(string(e.ID)) || seen[e.ID] {
			s.Errorf("event %d has the id %q, which is invalid or not unique", i+1, e.ID)
		}
		seen[e.ID] = true
		if e.Seq <= last {
			s.Errorf("event %d has the sequence %d after %d", i+1, e.Seq, last)
		}
		last = e.Seq
		for what, at := range map[string]time.Time{"decided": e.Decided, "stored": e.At} {
			if d := time.Since(at); d < -time.Hour || d > time.Hour {
				s.Errorf("event %d was %s at %v", i+1, what, at)
			}
		}
	}
	if h.Revision < last {
		s.Errorf("the revision is %d, but the last event has sequence %d", h.Revision, last)
	}
	if want := Fold(h.Events); !reflect.DeepEqual(h.Booking, want) {
		s.Fatalf("the booking is\n %+v, but its events yield\n %+v", h.Booking, want)
	}
	if n := len(
		h.Events,
	); n > 0 &&
		(h.Booking.ID != s.id || h.Booking.Version != h.Events[n-1].N || h.Booking.Seq != last) {
		s.Errorf("the booking is %+v after event %d of %s", h.Booking, last, s.id)
	}
}

// at returns an event as the log should return it.
func at(n int, c booking.Command, e booking.Event) booking.Event {
	e.N, e.Command = n, c.ID
	return e
}

func kinds(events []booking.Event) []booking.Kind {
	var ks []booking.Kind
	for _, e := range events {
		ks = append(ks, e.Kind)
	}
	return ks
}

func (s *suite) unknown() {
	for _, r := range []booking.Reading{booking.Quick, booking.Fresh} {
		if h := s.load(r); !reflect.DeepEqual(h, booking.History{}) {
			s.Errorf("reading %d: %+v", r, h)
		}
	}
}

func (s *suite) readsBack() {
	user, rider := s.command(booking.User), s.command(booking.Rider)
	if _, err := s.Log.Append(
		s.Context(),
		again(user),
		booking.ID(booking.NewID()),
		booking.History{},
		requested(user),
	); err != nil {
		s.Fatal(err) // of another booking, because sequences belong to the log
	}
	trip := booking.Details{
		Pickup: &booking.Place{
			Lat: 12.971598765432,
			Lng: 77.594566,
		},
		Dropoff:  &booking.Place{Lat: -0.1, Lng: -179.999999999},
		Quote:    &booking.Quote{Metres: 5210, Minutes: 15, Fare: 1<<53 - 1, Currency: "INR"},
		Deadline: time.Now().Add(time.Hour),
	}
	first := event(user, booking.Requested, trip)
	h := s.append(user, booking.History{}, first)
	s.check(h, at(1, user, first))
	s.check(s.load(booking.Fresh), at(1, user, first))

	second := event(rider, booking.Accepted)
	h = s.append(rider, h, second)
	s.check(h, at(1, user, first), at(2, rider, second))
	read := s.load(booking.Fresh)
	s.check(read, at(1, user, first), at(2, rider, second))
	if h.Revision != read.Revision || h.Revision != h.Events[1].Seq {
		s.Errorf(
			"the append returned revision %d and event %d, but a read returned revision %d",
			h.Revision,
			h.Events[1].Seq,
			read.Revision,
		)
	}
	if h.Events[0].ID != read.Events[0].ID || h.Events[1].ID != read.Events[1].ID {
		s.Error("the append and a read return different event ids")
	}
}

func (s *suite) everyKind() {
	user, rider, other, service := s.command(
		booking.User,
	), s.command(
		booking.Rider,
	), s.command(
		booking.Rider,
	), s.command(
		booking.Service,
	)
	reason := "puncture: \"flat\" tyre \u2014 d\u00e9sol\u00e9"
	past, future := time.Now().Add(-time.Hour), time.Now().Add(2*time.Hour)
	story := func(steps ...booking.Event) {
		s.Helper()
		s.id = booking.ID(booking.NewID())
		by := map[booking.Actor]booking.Command{
			user.Actor:    user,
			rider.Actor:   rider,
			other.Actor:   other,
			service.Actor: service,
		}
		var h booking.History
		var want []booking.Event
		for i, e := range steps {
			c := again(by[e.Actor])
			h = s.append(c, h, e)
			want = append(want, at(i+1, c, e))
			s.check(h, want...)
		}
		s.check(s.load(booking.Fresh), want...)
	}
	story(
		requested(user),
		event(rider, booking.Accepted),
		event(rider, booking.Arrived),
		event(rider, booking.StartRefused),
		event(
			rider,
			booking.Released,
			booking.Details{Deadline: future, Reason: reason},
		),
		event(other, booking.Accepted),
		event(service, booking.Cancelled, booking.Details{Reason: reason}),
	)
	story(
		requested(user),
		event(rider, booking.Accepted),
		event(rider, booking.Arrived),
		event(rider, booking.Started),
		event(
			rider,
			booking.Completed,
		),
		event(user, booking.Rated, booking.Details{Stars: 5}),
		event(rider, booking.RiderRated, booking.Details{Stars: 1}),
	)
	story(event(user, booking.Requested, booking.Details{Deadline: past}), event(service, booking.Expired))
	story(
		requested(user),
		event(rider, booking.Accepted),
		event(service, booking.OperatorReleased, booking.Details{Deadline: future, Reason: reason}),
		event(service, booking.OperatorCancelled, booking.Details{Reason: reason}),
	)
}

func (s *suite) mustBeNew() {
	user, another := s.command(booking.User), s.command(booking.User)
	s.moved(user, booking.History{Revision: 1 << 40}, requested(user)) // a booking without messages
	s.append(user, booking.History{}, requested(user))
	had := s.load(booking.Fresh)
	s.moved(another, booking.History{}, requested(another))
	s.moved(again(user), booking.History{}, requested(user))
	s.unchanged(had)
}

func (s *suite) guardMoves() {
	user, rider, other := s.command(booking.User), s.command(booking.Rider), s.command(booking.Rider)
	h1 := s.append(user, booking.History{}, requested(user))
	h2 := s.append(rider, h1, event(rider, booking.Accepted))
	had := s.load(booking.Fresh)
	s.moved(other, h1, event(other, booking.Accepted))
	s.moved(again(user), h1, event(user, booking.Cancelled))
	s.moved(again(user), booking.History{}, requested(user))
	s.unchanged(had)
	h3 := s.append(again(rider), h2, event(rider, booking.Arrived))
	had = s.load(booking.Fresh)
	s.moved(again(user), h2, event(user, booking.Cancelled))
	s.unchanged(had)
	s.append(again(user), h3, event(user, booking.Cancelled))
}

// accepted appends a request and an acceptance, and returns the history and the rider.
func (s *suite) accepted() (booking.History, booking.Command) {
	s.Helper()
	user, rider := s.command(booking.User), s.command(booking.Rider)
	h := s.append(user, booking.History{}, requested(user))
	return s.append(rider, h, event(rider, booking.Accepted)), rider
}

func (s *suite) inOrder() {
	h, rider := s.accepted()
	before := h.Events
	c := again(rider)
	steps := []booking.Event{event(c, booking.Arrived), event(c, booking.Started), event(c, booking.Completed)}
	h = s.append(c, h, steps...)
	want := append(before[:2:2], at(3, c, steps[0]), at(4, c, steps[1]), at(5, c, steps[2]))
	s.check(h, want...)
	s.check(s.load(booking.Fresh), want...)
	if h.Booking.State != booking.StateCompleted || h.Revision != h.Events[4].Seq {
		s.Errorf("revision %d, booking %+v", h.Revision, h.Booking)
	}
}
