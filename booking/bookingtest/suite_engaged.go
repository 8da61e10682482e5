package bookingtest

import (
	"errors"
	"sync"

	"github.com/example/pillion/booking"
)

// open appends a request for a new booking, and returns its id and history.
func (s *suite) open() (booking.ID, booking.History) {
	s.Helper()
	user := s.command(booking.User)
	id := booking.ID(booking.NewID())
	h, err := s.Log.Append(s.Context(), user, id, booking.History{}, requested(user))
	if err != nil {
		s.Fatal(err)
	}
	return id, h
}

// engagement reads a rider's engagement through the other log.
func (s *suite) engagement(rider booking.Command) booking.Engagement {
	s.Helper()
	at, err := s.Other.Engagement(s.Context(), booking.RiderID(rider.Actor.ID), booking.Fresh)
	if err != nil {
		s.Fatalf("engagement: %v", err)
	}
	return at
}

func (s *suite) engages() {
	rider := s.command(booking.Rider)
	if at := s.engagement(rider); at != (booking.Engagement{}) {
		s.Errorf("before any acceptance the engagement is %+v", at)
	}
	var at booking.Engagement
	for range 3 {
		id, h := s.open()
		s.id = id
		c, e := again(rider), event(rider, booking.Accepted)
		if _, err := s.Log.Append(s.Context(), c, id, h, e); err == nil || errors.Is(err, booking.ErrMoved) {
			s.Errorf("an acceptance without its record: %v, want an error", err)
		}
		h, err := s.Log.Engage(s.Context(), c, id, h, at, e)
		if err != nil {
			s.Fatalf("engage: %v", err)
		}
		s.check(h, h.Events[0], at2(c, e))
		s.check(s.load(booking.Fresh), h.Events...)
		if read := s.load(booking.Fresh); read.Revision != h.Revision {
			s.Errorf("Engage returned revision %d, but a read returned %d", h.Revision, read.Revision)
		}
		now := s.engagement(rider)
		if now.Booking != id || now.Revision <= at.Revision || now.Revision >= h.Revision {
			s.Errorf("the engagement is %+v after %+v, but the acceptance has sequence %d", now, at, h.Revision)
		}
		at = now
		// later events concern the booking only
		s.append(again(rider), h, event(rider, booking.Arrived))
		if now := s.engagement(rider); now != at {
			s.Errorf("an arrival changed the engagement to %+v from %+v", now, at)
		}
	}
}

// at2 returns an acceptance, the second event, as the log should return it.
func at2(c booking.Command, e booking.Event) booking.Event { return at(2, c, e) }

func (s *suite) engagedMeanwhile() {
	rider := s.command(booking.Rider)
	first, h1 := s.open()
	second, h2 := s.open()
	e := event(rider, booking.Accepted)
	refused := func(id booking.ID, after booking.History, at booking.Engagement) {
		s.Helper()
		if _, err := s.Log.Engage(s.Context(), again(rider), id, after, at, e); !errors.Is(err, booking.ErrMoved) {
			s.Errorf("engage: %v, want ErrMoved", err)
		}
	}
	refused(
		first,
		h1,
		booking.Engagement{Booking: second, Revision: h2.Revision},
	) // an engagement that never existed
	refused(
		first,
		booking.History{EventSequencer: h1.EventSequencer, Events: h1.Events, Revision: 1 << 40},
		booking.Engagement{},
	) // a history that never existed
	if at := s.engagement(rider); at != (booking.Engagement{}) {
		s.Errorf("a refused acceptance engaged the rider: %+v", at)
	}
	if _, err := s.Log.Engage(s.Context(), again(rider), first, h1, booking.Engagement{}, e); err != nil {
		s.Fatalf("engage: %v", err)
	}
	refused(second, h2, booking.Engagement{}) // the rider's engagement has changed
	at := s.engagement(rider)
	other := s.command(booking.Rider)
	s.id = second
	s.append(other, h2, event(other, booking.Accepted))
	had := s.load(booking.Fresh)
	refused(second, h2, at) // the booking has changed
	s.unchanged(had)
	if now := s.engagement(rider); now != at {
		s.Errorf("a refused acceptance changed the engagement to %+v from %+v", now, at)
	}
}

func (s *suite) oneRide() {
	const bookings = 16
	rider := s.command(booking.Rider)
	ids, histories := make([]booking.ID, bookings), make([]booking.History, bookings)
	for i := range ids {
		ids[i], histories[i] = s.open()
	}
	won := make([]error, bookings)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			<-start
			_, won[i] = s.either(i).
				Engage(s.Context(), again(rider), ids[i], histories[i], booking.Engagement{},
					event(rider, booking.Accepted))
		})
	}
	close(start)
	wg.Wait()
	winner := booking.ID("")
	for i, err := range won {
		switch {
		case err == nil && winner != "":
			s.Errorf("the rider has accepted %s and %s", winner, ids[i])
		case err == nil:
			winner = ids[i]
		case !errors.Is(err, booking.ErrMoved):
			s.Errorf("an acceptance failed: %v", err)
		}
		s.id = ids[i]
		if got := s.load(booking.Fresh).Booking.State; (got == booking.StateAccepted) != (err == nil) {
			s.Errorf("booking %d is %s, but its acceptance returned %v", i, got, err)
		}
	}
	if at := s.engagement(rider); at.Booking != winner || winner == "" {
		s.Errorf("the engagement is %q, but the rider accepted %q", at.Booking, winner)
	}
}

func (s *suite) either(i int) booking.Log {
	if i%2 == 1 {
		return s.Other
	}
	return s.Log
}

// wave makes riders accept bookings concurrently, each rider each booking. No booking may get two
// riders, and no rider two bookings.
func (s *suite) wave() {
	const riders, bookings = 6, 6
	ids, histories := make([]booking.ID, bookings), make([]booking.History, bookings)
	for i := range ids {
		ids[i], histories[i] = s.open()
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	byBooking, byRider := make(map[booking.ID]string), make(map[string]booking.ID)
	for r := range riders {
		rider := s.command(booking.Rider)
		for i := range ids {
			wg.Go(func() {
				<-start
				_, err := s.either(r+i).
					Engage(s.Context(), again(rider), ids[i], histories[i], booking.Engagement{},
						event(rider, booking.Accepted))
				if errors.Is(err, booking.ErrMoved) {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					s.Errorf("an acceptance failed: %v", err)
					return
				}
				if byBooking[ids[i]] != "" || byRider[rider.Actor.ID] != "" {
					s.Errorf(
						"%s and %s have %s, or %s has another",
						byBooking[ids[i]],
						rider.Actor.ID,
						ids[i],
						rider.Actor.ID,
					)
				}
				byBooking[ids[i]], byRider[rider.Actor.ID] = rider.Actor.ID, ids[i]
			})
		}
	}
	close(start)
	wg.Wait()
	if len(byBooking) == 0 {
		s.Error("no acceptance succeeded")
	}
	for _, id := range ids {
		s.id = id
		if b := s.load(booking.Fresh).Booking; string(b.Rider) != byBooking[id] {
			s.Errorf("booking %s is with %q, but %q was told that it accepted", id, b.Rider, byBooking[id])
		}
	}
}
