package usersvc

import (
	"context"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// happening is an event of a booking as its user sees it.
type happening struct {
	Booking  booking.ID      `json:"booking_id"`
	Event    booking.Kind    `json:"event"`
	At       jsontime.Time   `json:"at"`
	State    booking.State   `json:"state"` // after it
	Rider    booking.RiderID `json:"raider_id,omitempty"`
	Deadline *jsontime.Time  `json:"deadline,omitempty"` // while it is open: until when a rider may accept
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

// story is a booking as its user is told of it, with where the rider is who comes.
func (s *Service) story() bookingweb.Story {
	story := bookingweb.Story{
		Desk: s.desk, Board: s.board, Ready: s.trusted, Now: s.now,
		Is:    func(b *booking.Booking, caller string) bool { return b.User == booking.UserID(caller) },
		Since: booking.Requested,
		Tell:  happeningOf,
		Rated: func(b *booking.Booking) bool { return b.UserStars != 0 },
	}
	if s.positions != nil {
		story.Aside = func(ctx context.Context) bookingweb.Aside { return &companion{ctx: ctx, positions: s.positions} }
	}
	return story
}
