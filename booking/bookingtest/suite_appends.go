package bookingtest

import (
	"errors"
	"reflect"

	"github.com/example/pillion/booking"
)

func (s *suite) allOrNone() {
	h, rider := s.accepted()
	had := s.load(booking.Fresh)
	c := again(rider)
	s.moved(
		c,
		booking.History{EventSequencer: h.EventSequencer, Events: h.Events, Revision: h.Events[0].Seq},
		event(c, booking.Arrived),
		event(c, booking.Started),
	)
	s.unchanged(had)
	s.forge(4, booking.Started) // the position after the next, unknown to the writer
	had = s.load(booking.Fresh)
	s.moved(c, h, event(c, booking.Arrived), event(c, booking.Started))
	s.unchanged(had)
	h = s.append(c, had, event(c, booking.Arrived), event(c, booking.Started))
	if h.Events[2].N != 3 || h.Events[3].N != 5 {
		s.Errorf("arrived has N %d and started %d, want 3, and 5 because a forgery has 4", h.Events[2].N, h.Events[3].N)
	}
	s.check(s.load(booking.Fresh), h.Events...)
}

func (s *suite) mustFollow() {
	h, rider := s.accepted()
	stranger := s.command(booking.Rider)
	had := s.load(booking.Fresh)
	for _, events := range [][]booking.Event{
		{event(rider, booking.Completed)},
		{event(rider, booking.Arrived), event(rider, booking.Completed)},
		{event(stranger, booking.Arrived)},
		{event(rider, booking.Cancelled)},
		{event(rider, "stolen")},
	} {
		if _, err := s.Log.Append(
			s.Context(),
			again(rider),
			s.id,
			h,
			events...); err == nil ||
			errors.Is(err, booking.ErrMoved) {
			s.Errorf("append %v: %v, want an error", kinds(events), err)
		}
	}
	s.unchanged(had)
}

func (s *suite) nothing() {
	h, rider := s.accepted()
	had := s.load(booking.Fresh)
	if next := s.append(again(rider), h); !reflect.DeepEqual(next, h) {
		s.Errorf("appending no events returned %+v after %+v", next, h)
	}
	s.unchanged(had)
}
