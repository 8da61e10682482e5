package bookingtest

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

func (s *suite) stepsOver() {
	user, rider := s.command(booking.User), s.command(booking.Rider)
	s.append(user, booking.History{}, requested(user))
	s.forge(2, booking.Accepted)
	s.forge(3, booking.Accepted)
	s.forge(4, booking.Cancelled) // another kind, which blocks nothing yet
	h := s.load(booking.Fresh)
	if h.Booking.State != booking.StateOpen || len(h.Events) != 1 || h.Booking.Version != 1 {
		s.Errorf("refused messages changed the history: %+v", h)
	}
	if h.Revision <= h.Events[0].Seq {
		s.Errorf("the revision %d does not include the refused messages", h.Revision)
	}
	accepted := event(rider, booking.Accepted)
	h = s.append(rider, h, accepted)
	s.check(h, h.Events[0], at(4, rider, accepted))
	s.check(s.load(booking.Fresh), h.Events[0], at(4, rider, accepted))

	s.forge(5, booking.Arrived)
	c := again(user)
	cancelled := event(c, booking.Cancelled)
	h = s.append(c, s.load(booking.Fresh), cancelled)
	s.check(s.load(booking.Fresh), h.Events[0], h.Events[1], at(5, c, cancelled))
}

func (s *suite) forgeryMoves() {
	user, rider := s.command(booking.User), s.command(booking.Rider)
	h := s.append(user, booking.History{}, requested(user))
	s.forge(2, booking.Accepted)
	s.moved(rider, h, event(rider, booking.Accepted)) // its position is occupied
	s.moved(again(user), h, event(user, booking.Cancelled))
	h = s.load(booking.Fresh)
	s.moved(
		rider,
		booking.History{
			EventSequencer: booking.EventSequencer{Booking: h.Booking},
			Events:         h.Events,
			Revision:       h.Revision,
		},
		event(rider, booking.Accepted),
	) // even if the writer ignores the message: it occupies its position for good
	s.unchanged(h)
	h = s.append(rider, h, event(rider, booking.Accepted))
	if n := h.Events[1].N; n != 3 {
		s.Errorf("the acceptance has N %d, want 3", n)
	}
}

func (s *suite) forgedFirst() {
	user := s.command(booking.User)
	s.forge(1, booking.Requested)
	s.moved(user, booking.History{}, requested(user))
	h := s.load(booking.Fresh)
	if h.Booking.State != booking.StateNone || h.Revision == 0 {
		s.Errorf("a refused message alone yields %+v", h)
	}
	first := requested(user)
	s.append(user, h, first)
	s.check(s.load(booking.Fresh), at(2, user, first))
}

// thousand uses more messages than the 1,024 that the real log's server returns at once.
func (s *suite) thousand() {
	const forged, forgers = 1100, 8
	user, rider := s.command(booking.User), s.command(booking.Rider)
	s.append(user, booking.History{}, requested(user))
	var wg sync.WaitGroup
	for f := range forgers {
		wg.Go(func() {
			for n := 2 + f; n < 2+forged; n += forgers {
				if err := s.Forge(s.Context(), s.id, n, booking.Accepted); err != nil {
					s.Errorf("forge %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s.Failed() {
		return
	}
	h := s.load(booking.Fresh)
	if n := h.Next(booking.Accepted); n != 2+forged {
		s.Fatalf("the next acceptance would have N %d, want %d", n, 2+forged)
	}
	accepted := event(rider, booking.Accepted)
	s.append(rider, h, accepted)
	s.check(s.load(booking.Fresh), h.Events[0], at(2+forged, rider, accepted))
}

func (s *suite) race() {
	const appenders = 32
	user := s.command(booking.User)
	h := s.append(user, booking.History{}, requested(user))
	riders, errs := make([]booking.Command, appenders), make([]error, appenders)
	for i := range riders {
		riders[i] = s.command(booking.Rider)
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, c := range riders {
		wg.Go(func() {
			<-start
			log := s.Log
			if i%2 == 1 {
				log = s.Other
			}
			_, errs[i] = log.Engage(s.Context(), c, s.id, h, booking.Engagement{}, event(c, booking.Accepted))
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			s.Errorf("appenders %d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, booking.ErrMoved):
			s.Errorf("appender %d: %v, want ErrMoved", i, err)
		}
	}
	if winner < 0 {
		s.Fatal("no append succeeded")
	}
	s.check(s.load(booking.Fresh), h.Events[0], at(2, riders[winner], event(riders[winner], booking.Accepted)))
}

// fresh writes through each log and reads through the other.
func (s *suite) fresh() {
	const rounds = 30
	user, one, two := s.command(booking.User), s.command(booking.Rider), s.command(booking.Rider)
	for round := range rounds {
		s.id = booking.ID(booking.NewID())
		writer, reader := s.Log, s.Other
		if round%2 == 1 {
			writer, reader = reader, writer
		}
		var h booking.History
		var err error
		for n, e := range []booking.Event{requested(user), event(one, booking.Accepted), event(one, booking.Arrived),
			event(one, booking.Released, requested(user).Details), event(two, booking.Accepted)} {
			c := again(
				booking.Command{
					Actor: e.Actor,
					Proof: map[booking.Actor]string{user.Actor: user.Proof, one.Actor: one.Proof,
						two.Actor: two.Proof}[e.Actor],
				},
			)
			if h, err = s.store(writer, c, h, e); err != nil {
				s.Fatalf("round %d: append %s: %v", round, e.Kind, err)
			}
			for who, log := range map[string]booking.Log{"its writer": writer, "another": reader} {
				read, err := log.Load(s.Context(), s.id, booking.Fresh)
				if err != nil {
					s.Fatalf("round %d: %v", round, err)
				}
				if len(read.Events) != n+1 || read.Revision != h.Revision {
					s.Fatalf(
						"round %d: %s reads %d events up to sequence %d, want %d up to %d",
						round,
						who,
						len(read.Events),
						read.Revision,
						n+1,
						h.Revision,
					)
				}
			}
		}
	}
}

// separate changes all memory that it shares with the log, and reads again.
func (s *suite) separate() {
	user, rider := s.command(booking.User), s.command(booking.Rider)
	e := requested(user)
	e.Pickup, e.Dropoff = &booking.Place{Lat: 1, Lng: 2}, &booking.Place{Lat: 3, Lng: 4}
	h := s.append(user, booking.History{}, e)
	e.Pickup.Lat = 50
	if s.load(booking.Fresh).Booking.Pickup.Lat != 1 {
		s.Error("the log shares memory with its arguments")
	}
	for _, k := range []booking.Kind{booking.Accepted, booking.Arrived} {
		s.append(again(rider), s.load(booking.Fresh), event(rider, k))
	}
	had := s.load(booking.Fresh)
	next := s.append(again(rider), had, event(rider, booking.Started))
	if len(had.Events) != 3 || had.Booking.State != booking.StateArrived {
		s.Errorf("an append changed its argument after: %+v", had)
	}
	next.Events[0].Reason = "changed"
	if had.Events[0].Reason != "" {
		s.Error("an append returns memory of its argument after")
	}
	for _, mine := range []booking.History{h, next, s.load(booking.Fresh)} {
		mine.Events[0].Pickup.Lat = 50
		for i := range mine.Events {
			mine.Events[i].Kind, mine.Events[i].Command = booking.Expired, "changed"
		}
		mine.Booking.Pickup.Lat = 50
		mine.Refuse(5, booking.Completed, 0)
	}
	read := s.load(booking.Fresh)
	if read.Events[0].Kind != booking.Requested || read.Events[0].Pickup.Lat != 1 || read.Booking.Pickup.Lat != 1 ||
		read.Next(booking.Completed) != 5 {
		s.Errorf("the log returns its own memory: %+v", read)
	}
}

func (s *suite) cancelled() {
	h, rider := s.accepted()
	had := s.load(booking.Fresh)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	refused := func(what string, h booking.History, err error) {
		s.Helper()
		if !errors.Is(err, context.Canceled) && fault.KindOf(err) != fault.Unavailable {
			s.Errorf("%s: %v, want the context's error or kind Unavailable", what, err)
		}
		if !reflect.DeepEqual(h, booking.History{}) {
			s.Errorf("%s: a history with an error", what)
		}
	}
	next, err := s.Log.Append(ctx, again(rider), s.id, h, event(rider, booking.Arrived))
	refused("append", next, err)
	for _, r := range []booking.Reading{booking.Quick, booking.Fresh} {
		read, err := s.Log.Load(ctx, s.id, r)
		refused("load", read, err)
	}
	s.unchanged(had)
}
