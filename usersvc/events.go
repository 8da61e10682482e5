package usersvc

import (
	"net/http"
	"time"

	"pillion/booking"
	"pillion/bookingweb"
	"pillion/web"
)

// afterRide is how long a stream goes on after the ride: the user may still rate it.
const afterRide = time.Minute

// happening is an event of a booking as its user sees it.
type happening struct {
	Booking  booking.ID      `json:"booking_id"`
	Event    booking.Kind    `json:"event"`
	At       time.Time       `json:"at"`
	State    booking.State   `json:"state"` // after it
	Rider    booking.RiderID `json:"raider_id,omitempty"`
	Deadline *time.Time      `json:"deadline,omitempty"` // while it is open: until when a rider may accept
	Reason   string          `json:"reason,omitempty"`   // why it was cancelled
	Stars    int             `json:"stars,omitempty"`    // what the user gave
}

// happeningOf returns what the user is told of a change, and whether it is told at all: what the rider thinks of the user is not. A user sees no
// more of a booking here than in [rideOf].
func happeningOf(c *booking.Change) (web.Event, bool) {
	e, b := &c.Event, &c.Booking
	if e.Kind == booking.Rated && e.Actor.Role != booking.User {
		return web.Event{}, false
	}
	r := rideOf(*b)
	h := happening{Booking: r.Booking, Event: e.Kind, At: r.UpdatedAt, State: r.State, Rider: r.Rider, Reason: r.Reason}
	if b.State == booking.StateOpen {
		h.Deadline = &r.Deadline
	}
	if e.Kind == booking.Rated {
		h.Stars = e.Stars
	}
	return web.Event{ID: e.Seq, Event: string(e.Kind), Data: h}, true
}

// over returns how much longer a stream about b goes on at time now, and whether it comes to an end: after a ride until the user has rated it, or for a
// while.
func over(b *booking.Booking, now time.Time) (time.Duration, bool) {
	switch b.State {
	case booking.StateCancelled, booking.StateExpired:
		return 0, true
	case booking.StateCompleted:
		if b.UserStars != 0 {
			return 0, true
		}
		return min(afterRide, max(0, b.UpdatedAt.Add(afterRide).Sub(now))), true
	}
	return 0, false
}

// watch tells the caller what has happened to a booking and then what happens. Nobody but its user learns that it is there.
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
		if claims, _ := web.Caller(ctx); past.Booking.User != booking.UserID(claims.Subject) {
			return booking.ErrNotFound
		}
		if err := st.Begin(); err == nil {
			_ = s.tell(st, past, live, after) // it has ended the stream
		}
		return nil
	}
}

// tell is a stream from its first event to its last. It always returns an error, which has been dealt with.
func (s *Service) tell(st *web.Stream, past booking.History, live *booking.Watch, after uint64) error {
	var replay []web.Event
	for _, c := range past.Changes() {
		if e, ok := happeningOf(&c); ok && e.ID > after {
			replay = append(replay, e)
		}
	}
	if err := st.Send(replay...); err != nil {
		return err
	}
	now := past.Booking
	changes := live.Changes()
	var rider companion
	defer rider.close()
	var last <-chan time.Time
	for {
		if left, ends := over(&now, s.now()); ends && left <= 0 {
			return st.End(web.BookingOver)
		} else if ends && last == nil {
			timer := time.NewTimer(left)
			defer timer.Stop()
			last = timer.C
		}
		rider.follow(st.Context(), s.positions, &now)
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
		case at := <-rider.newest:
			err = st.Send(web.Event{Event: "position", Data: at})
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
