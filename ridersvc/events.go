package ridersvc

import (
	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// happening is an event of a booking as its rider sees it: the ride, and nothing of the user.
type happening struct {
	Booking booking.ID    `json:"booking_id"`
	Event   booking.Kind  `json:"event"`
	At      jsontime.Time `json:"at"`
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
	h := happening{Booking: b.ID, Event: e.Kind, At: jsontime.Time(b.UpdatedAt), State: b.State}
	switch e.Kind {
	case booking.Cancelled, booking.Released:
		h.Reason = e.Reason
	case booking.Rated:
		h.Stars = e.Stars
	}
	return web.Event{ID: e.Seq, Event: string(e.Kind), Data: h}, true
}

// story is a booking as its rider is told of it, from when that rider accepted it.
func (s *Service) story() bookingweb.Story {
	return bookingweb.Story{
		Desk: s.desk, Board: s.board, Ready: s.trusted, Now: s.now,
		Is:    func(b *booking.Booking, caller string) bool { return b.Rider == booking.RiderID(caller) },
		Since: booking.Accepted,
		Tell:  happeningOf,
		Rated: func(b *booking.Booking) bool { return b.RiderStars != 0 },
	}
}
