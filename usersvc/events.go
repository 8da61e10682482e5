package usersvc

import (
	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web/bookings"
)

// eventView returns a change as the user sees it. The rider's rating is not visible.
func eventView(c *booking.Change) (v bookings.EventView, visible bool) {
	if v, visible = bookings.NewEventView(c, booking.User); !visible {
		return v, false
	}
	b := &c.Booking
	v.Rider = b.Rider
	switch b.State {
	case booking.StateOpen:
		deadline := jsontime.Time(b.Deadline)
		v.Deadline = &deadline
	case booking.StateCancelled:
		v.Reason = b.Reason
	}
	return v, true
}

// events returns the stream of a user's booking, with the positions of the rider who is on the way.
func (s *Service) events() bookings.EventStream {
	return bookings.EventStream{
		Desk: s.c.Desk, Board: s.board, Now: s.c.Now, Fleet: s.c.Fleet,
		IsParty:  func(b *booking.Booking, caller string) bool { return b.User == booking.UserID(caller) },
		Since:    booking.Requested,
		View:     eventView,
		HasRated: func(b *booking.Booking) bool { return b.UserStars != 0 },
	}
}
