package ridersvc

import (
	"net/http"
	"time"

	"pillion/booking"
	"pillion/bookingweb"
	"pillion/web"
)

// afterRide is how long a stream goes on after the ride: the rider may still rate it.
const afterRide = time.Minute

// happening is an event of a booking as its rider sees it: the ride, and nothing of the user.
type happening struct {
	Booking booking.ID    `json:"booking_id"`
	Event   booking.Kind  `json:"event"`
	At      time.Time     `json:"at"`
	State   booking.State `json:"state"`            // after it
	Reason  string        `json:"reason,omitempty"` // why it was cancelled, or given to others
	Stars   int           `json:"stars,omitempty"`  // what the rider gave
}

// happeningOf returns what the rider is told of a change, and whether it is told at all: what the user thinks of the rider is not.
func happeningOf(c *booking.Change) (web.Event, bool) {
	e, b := &c.Event, &c.Booking
	if e.Kind == booking.Rated && e.Actor.Role != booking.Rider {
		return web.Event{}, false
	}
	h := happening{Booking: b.ID, Event: e.Kind, At: b.UpdatedAt.UTC(), State: b.State}
	switch e.Kind {
	case booking.Cancelled, booking.Released:
		h.Reason = e.Reason
	case booking.Rated:
		h.Stars = e.Stars
	}
	return web.Event{ID: e.Seq, Event: string(e.Kind), Data: h}, true
}

// over returns how much longer a stream about b goes on at time now for a rider, and whether it comes to an end: after a ride until the rider has rated it, or for a
// while.
func over(b *booking.Booking, rider booking.RiderID, now time.Time) (time.Duration, bool) {
	switch {
	case b.Rider != rider: // it is somebody else's now
		return 0, true
	case b.State == booking.StateCancelled:
		return 0, true
	case b.State == booking.StateCompleted && b.RiderStars != 0:
		return 0, true
	case b.State == booking.StateCompleted:
		return min(afterRide, max(0, b.UpdatedAt.Add(afterRide).Sub(now))), true
	}
	return 0, false
}

// watch tells the caller what has happened to a booking since the caller accepted it, and then what happens. Nobody but its rider learns anything of it.
func (s *Service) watch(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, _, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := s.ready(ctx); err != nil {
			return ErrCatchingUp.Because(err)
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		past, live, err := s.desk.Follow(ctx, s.board, bookingweb.Named(r))
		if err != nil {
			return err
		}
		defer live.Stop()
		claims, _ := web.Caller(ctx)
		rider := booking.RiderID(claims.Subject)
		if past.Booking.Rider != rider {
			return booking.ErrNotFound
		}
		if err := st.Begin(); err == nil {
			_ = s.tell(st, past, live, rider, after) // it has ended the stream
		}
		return nil
	}
}

// tell is a stream from its first event to its last. It always returns an error, which has been dealt with.
func (s *Service) tell(st *web.Stream, past booking.History, live *booking.Watch, rider booking.RiderID, after uint64) error {
	var replay []web.Event
	for _, c := range past.Changes() {
		if c.Event.Kind == booking.Accepted {
			replay = nil // whose ride it was before is not this rider's business
		}
		if e, ok := happeningOf(&c); ok && e.ID > after {
			replay = append(replay, e)
		}
	}
	if err := st.Send(replay...); err != nil {
		return err
	}
	now := past.Booking
	changes := live.Changes()
	var last <-chan time.Time
	for {
		if left, ends := over(&now, rider, s.now()); ends && left <= 0 {
			return st.End(web.BookingOver)
		} else if ends && last == nil {
			timer := time.NewTimer(left)
			defer timer.Stop()
			last = timer.C
		}
		var err error
		select {
		case c, ok := <-changes:
			if !ok {
				return st.End(bookingweb.EndingOf(live.Err()))
			}
			now = c.Booking
			if e, ok := happeningOf(c); ok {
				err = st.Send(e)
			}
		case <-last:
			return st.End(web.BookingOver)
		case <-st.Due():
			err = st.Tend()
		case <-st.Over():
			return st.Leave()
		}
		if err != nil {
			return err
		}
	}
}
