package ridersvc

import (
	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/bookings"
)

// eventView returns a change as the rider sees it. The user's rating is not visible.
func eventView(c *booking.Change) (v bookings.EventView, visible bool) {
	if v, visible = bookings.NewEventView(c, booking.Rider); !visible {
		return v, false
	}
	switch c.Event.Kind.Public() {
	case booking.Cancelled, booking.Released:
		v.Reason = c.Event.Reason
	}
	return v, true
}

// events returns the stream of a rider's booking, from the acceptance on.
func (s *Service) events() bookings.EventStream {
	return bookings.EventStream{
		Desk: s.c.Desk, Board: s.board, Now: s.c.Now,
		IsParty:  func(b *booking.Booking, caller string) bool { return b.Rider == booking.RiderID(caller) },
		Since:    booking.Accepted,
		View:     eventView,
		HasRated: func(b *booking.Booking) bool { return b.RiderStars != 0 },
	}
}
