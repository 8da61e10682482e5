package bookings

import (
	"errors"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
)

// afterRide is how long a stream goes on after the ride, so that the reader can still rate it.
const afterRide = time.Minute

// An EventStream serves the events of a booking to one of its two parties. All fields but
// SideEvents are required.
type EventStream struct {
	Desk  *booking.Desk
	Board TrustedBoard
	Now   func() time.Time

	// whether the caller is the party now
	IsParty func(b *booking.Booking, caller string) bool
	// makes the caller the party; hides earlier events
	Since booking.Kind
	View  func(c *booking.Change) (v EventView, show bool) // a change as the party sees it
	// whether the party has rated the ride
	HasRated func(b *booking.Booking) bool
	// where riders are; nil: the party is not told where its rider is
	Fleet *fleet.Map
}

// Watch sends the caller a booking's past events and then each new one, until the booking is over.
// It answers 204 to a client that resumes and has missed nothing of a booking that is over. It
// answers booking.ErrNotFound to everybody but the party.
func (s EventStream) Watch(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, resuming, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := s.Board.Check(ctx); err != nil {
			return err
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		past, live, err := s.Board.Follow(ctx, s.Desk, PathID(r))
		if err != nil {
			return err
		}
		defer live.Stop()
		claims, _ := web.Caller(ctx)
		if !s.IsParty(&past.Booking, claims.Subject) {
			return booking.ErrNotFound
		}
		left, ends := s.timeLeft(&past.Booking, claims.Subject)
		if resuming && ends && left <= 0 && after <= past.Revision && len(s.replay(past, after)) == 0 {
			// the only answer that keeps an EventSource from reconnecting
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err := st.Begin(); err == nil {
			_ = s.run(st, past, live, claims.Subject, after) // the error has ended the stream
		}
		return nil
	}
}

// run sends everything from the first event to the last. It returns an error in any case, and has
// handled it.
func (s EventStream) run(
	st *web.Stream, past booking.History, live *board.Watch, caller string, after uint64,
) error {
	// the ledger was restored from a backup older than the client's last event
	if after > past.Revision {
		return st.End(web.Restart)
	}
	if err := st.Send(s.replay(past, after)...); err != nil {
		return err
	}
	now := past.Booking
	changes := live.Changes()
	rider := tracker{fleet: s.Fleet}
	defer rider.stop()
	var last <-chan time.Time
	for {
		if left, ends := s.timeLeft(&now, caller); ends && left <= 0 {
			return st.End(web.BookingOver)
		} else if ends && last == nil {
			timer := time.NewTimer(left)
			defer timer.Stop()
			last = timer.C
		}
		rider.follow(&now)
		var err error
		select {
		case c, ok := <-changes:
			if !ok {
				return st.End(EndingOf(live.Err()))
			}
			now = c.Booking
			if v, ok := s.View(c); ok {
				err = st.Send(v.StreamEvent(c))
			}
		case p := <-rider.positions:
			err = st.Send(web.Event{Event: "position", Data: positionView{p.Place, jsontime.Time(p.At)}})
		case <-last:
			return st.End(web.BookingOver)
		case <-st.Due():
			err = st.KeepAlive()
		case <-st.Over():
			return st.Leave()
		}
		if err != nil {
			return err
		}
	}
}

// replay returns the past events with a sequence over after that the party may see.
func (s EventStream) replay(past booking.History, after uint64) (events []web.Event) {
	for _, c := range past.Changes() {
		if c.Event.Kind == s.Since {
			events = nil
		}
		if v, ok := s.View(&c); ok && c.Event.Seq > after {
			events = append(events, v.StreamEvent(&c))
		}
	}
	return events
}

// timeLeft reports whether a stream about b ends without another event, and how long it still
// lasts. After a ride it lasts until the caller has rated, or for a minute.
func (s EventStream) timeLeft(b *booking.Booking, caller string) (left time.Duration, ends bool) {
	switch {
	case !s.IsParty(b, caller):
		return 0, true
	case b.State == booking.StateCancelled, b.State == booking.StateExpired:
		return 0, true
	case b.State == booking.StateCompleted && s.HasRated(b):
		return 0, true
	case b.State == booking.StateCompleted:
		return min(afterRide, max(0, b.UpdatedAt.Add(afterRide).Sub(s.Now()))), true
	}
	return 0, false
}

// EndingOf returns the ending of a stream whose watch ended with err.
func EndingOf(err error) web.Ending {
	switch {
	case errors.Is(err, board.ErrSlow):
		return web.SlowReader
	case errors.Is(err, board.ErrForgotten):
		return web.BookingOver
	}
	return web.Restart
}

// positionView is where a rider was at a time, as the user sees it.
type positionView struct {
	booking.Place
	At jsontime.Time `json:"at"`
}

// A tracker follows the rider who is on the way to a booking's user, until the ride starts.
type tracker struct {
	fleet     *fleet.Map            // nil: it follows nobody
	rider     booking.RiderID       // "" while it follows nobody
	positions <-chan fleet.Position // the newest position only
	unwatch   func()
}

// follow adapts to the present state of the booking.
func (t *tracker) follow(b *booking.Booking) {
	rider := b.Rider
	if t.fleet == nil || b.State != booking.StateAccepted && b.State != booking.StateArrived {
		rider = ""
	}
	if rider == t.rider {
		return
	}
	t.stop()
	if t.rider = rider; rider != "" {
		t.positions, t.unwatch = t.fleet.Watch(rider)
	}
}

func (t *tracker) stop() {
	if t.rider != "" {
		t.unwatch()
		t.rider, t.positions = "", nil
	}
}
