package bookings

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/web"
)

// afterRide is how long a stream goes on after the ride: its reader may still rate it.
const afterRide = time.Minute

// A Story is a booking as one of its two parties is told of it, in a stream. All but Aside are required.
type Story struct {
	Desk  *booking.Desk
	Board *board.Board
	Ready func(context.Context) error // why the board cannot be trusted yet, as the caller is told it
	Now   func() time.Time

	Is    func(b *booking.Booking, caller string) bool     // whether the caller is that party, now
	Since booking.Kind                                     // what has made the caller that party: what was before is not theirs to know
	Tell  func(c *booking.Change) (e web.Event, told bool) // what the caller is told of a change, if anything
	Rated func(b *booking.Booking) bool                    // whether the caller has rated the ride
	Aside func(context.Context) Aside                      // what a reader is told besides, until the context ends
}

// An Aside is what one reader of a story is told that is no event of the booking.
type Aside interface {
	Follow(b *booking.Booking) // tells from now on what belongs to the booking as it is now
	News() <-chan web.Event    // the channel may be another one after Follow; nil has none
	Close()                    // ends it
}

// Watch tells the caller what has happened to a booking and then what happens, until it is over; who has heard all of it by then is
// answered 204. Nobody but that party learns that the booking is there.
func (s Story) Watch(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, again, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := s.Ready(ctx); err != nil {
			return err
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		past, live, err := s.Board.Follow(ctx, s.Desk, Named(r))
		if err != nil {
			return err
		}
		defer live.Stop()
		claims, _ := web.Caller(ctx)
		if !s.Is(&past.Booking, claims.Subject) {
			return booking.ErrNotFound
		}
		left, ends := s.over(&past.Booking, claims.Subject)
		if again && ends && left <= 0 && after <= past.Revision && len(s.replay(past, after)) == 0 {
			w.WriteHeader(http.StatusNoContent) // nothing more can come: what else ends, a client of this kind begins again
			return nil
		}
		if err := st.Begin(); err == nil {
			_ = s.tell(st, past, live, claims.Subject, after) // it has ended the stream
		}
		return nil
	}
}

// tell is a stream from its first event to its last. It always returns an error, which has been dealt with.
func (s Story) tell(st *web.Stream, past booking.History, live *board.Watch, caller string, after uint64) error {
	if after > past.Revision { // what the caller was told is not in this ledger, which was restored from before it
		return st.End(web.Restart)
	}
	if err := st.Send(s.replay(past, after)...); err != nil {
		return err
	}
	now := past.Booking
	changes := live.Changes()
	var aside Aside = silence{}
	if s.Aside != nil {
		aside = s.Aside(st.Context())
	}
	defer aside.Close()
	var last <-chan time.Time
	for {
		if left, ends := s.over(&now, caller); ends && left <= 0 {
			return st.End(web.BookingOver)
		} else if ends && last == nil {
			timer := time.NewTimer(left)
			defer timer.Stop()
			last = timer.C
		}
		aside.Follow(&now)
		var err error
		select {
		case c, ok := <-changes:
			if !ok {
				return st.End(EndingOf(live.Err()))
			}
			now = c.Booking
			if e, ok := s.Tell(c); ok {
				err = st.Send(e)
			}
		case e := <-aside.News():
			err = st.Send(e)
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

// replay returns what is told of the past, of what came after a sequence.
func (s Story) replay(past booking.History, after uint64) (events []web.Event) {
	for _, c := range past.Changes() {
		if c.Event.Kind == s.Since {
			events = nil
		}
		if e, ok := s.Tell(&c); ok && e.ID > after {
			events = append(events, e)
		}
	}
	return events
}

// over returns how much longer a stream about b goes on, and whether it comes to an end: after a ride until the caller has rated it, or for a while.
func (s Story) over(b *booking.Booking, caller string) (time.Duration, bool) {
	switch {
	case !s.Is(b, caller): // any more
		return 0, true
	case b.State == booking.StateCancelled, b.State == booking.StateExpired:
		return 0, true
	case b.State == booking.StateCompleted && s.Rated(b):
		return 0, true
	case b.State == booking.StateCompleted:
		return min(afterRide, max(0, b.UpdatedAt.Add(afterRide).Sub(s.Now()))), true
	}
	return 0, false
}

// EndingOf returns why a stream ends whose watch has ended.
func EndingOf(err error) web.Ending {
	switch {
	case errors.Is(err, board.ErrSlow):
		return web.SlowReader
	case errors.Is(err, board.ErrForgotten):
		return web.BookingOver
	}
	return web.Restart
}

// silence is an Aside that tells nothing.
type silence struct{}

func (silence) Follow(*booking.Booking) {}
func (silence) News() <-chan web.Event  { return nil }
func (silence) Close()                  {}
