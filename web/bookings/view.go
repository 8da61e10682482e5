package bookings

import (
	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
)

// A View is a booking as one of its parties sees it. Of the other party it shows at most the id.
// [NewView] sets the fields that both parties see; each service adds those of its own party.
type View struct {
	Booking booking.ID      `json:"booking_id"`
	State   booking.State   `json:"state"`
	User    booking.UserID  `json:"user_id,omitempty"`   // shown to the rider
	Rider   booking.RiderID `json:"raider_id,omitempty"` // shown to the user
	Pickup  *booking.Place  `json:"pickup,omitempty"`
	Dropoff *booking.Place  `json:"dropoff,omitempty"`
	*booking.Quote
	RequestedAt jsontime.Time `json:"requested_at"`
	UpdatedAt   jsontime.Time `json:"updated_at"`
	// shown to the user: until when a rider may accept
	Deadline *jsontime.Time `json:"deadline,omitempty"`
	// shown to the user: a secret until the ride starts
	StartCode string `json:"start_code,omitempty"`
	Reason    string `json:"reason,omitempty"` // why the booking was cancelled

	UserStars  int `json:"user_stars,omitempty"`   // the user's rating
	RiderStars int `json:"raider_stars,omitempty"` // the rider's rating
}

// NewView returns what both parties see of a booking. Ratings are left to the services.
func NewView(b *booking.Booking) View {
	v := View{
		Booking: b.ID, State: b.State, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote,
		RequestedAt: jsontime.Time(b.RequestedAt), UpdatedAt: jsontime.Time(b.UpdatedAt),
	}
	if b.State == booking.StateCancelled { // in other states it is why a rider has lost it
		v.Reason = b.Reason
	}
	return v
}

// An EventView is an event of a booking as one of the parties sees it.
type EventView struct {
	Booking booking.ID      `json:"booking_id"`
	Event   booking.Kind    `json:"event"`
	At      jsontime.Time   `json:"at"`
	State   booking.State   `json:"state"`               // after the event
	Rider   booking.RiderID `json:"raider_id,omitempty"` // shown to the user
	// shown to the user while the booking is open
	Deadline *jsontime.Time `json:"deadline,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Stars    int            `json:"stars,omitempty"` // the viewer's own rating
}

// NewEventView returns what both parties see of a change. Only the party in role sees its rating.
func NewEventView(c *booking.Change, role booking.Role) (v EventView, visible bool) {
	e, b := &c.Event, &c.Booking
	if e.Kind.IsRating() && e.Actor.Role != role {
		return EventView{}, false
	}
	v = EventView{Booking: b.ID, Event: e.Kind.Public(), At: jsontime.Time(b.UpdatedAt), State: b.State}
	if e.Kind.IsRating() { // one's own
		v.Stars = e.Stars
	}
	return v, true
}

// StreamEvent returns the message of a stream that carries v, with the sequence of the change as
// its id.
func (v EventView) StreamEvent(c *booking.Change) web.Event {
	return web.Event{ID: c.Event.Seq, Event: string(v.Event), Data: v}
}
