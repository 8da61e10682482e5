package ridersvc

import (
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// ride is a booking as the rider sees it who has it, or had it to its end. Of the user it shows the id and nothing else.
type ride struct {
	Booking booking.ID     `json:"booking_id"`
	State   booking.State  `json:"state"`
	User    booking.UserID `json:"user_id"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
	*booking.Quote
	RequestedAt jsontime.Time `json:"requested_at"`
	UpdatedAt   jsontime.Time `json:"updated_at"`
	Reason      string        `json:"reason,omitempty"` // why it was cancelled

	UserStars  int `json:"user_stars,omitempty"`   // what the user gave, once both have given any
	RiderStars int `json:"raider_stars,omitempty"` // what the rider gave
}

func rideOf(b booking.Booking) ride {
	r := ride{
		Booking: b.ID, State: b.State, User: b.User, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote,
		RequestedAt: jsontime.Time(b.RequestedAt), UpdatedAt: jsontime.Time(b.UpdatedAt), RiderStars: b.RiderStars,
	}
	if b.RiderStars > 0 { // nobody rates in answer to the other's rating
		r.UserStars = b.UserStars
	}
	if b.State == booking.StateCancelled {
		r.Reason = b.Reason
	}
	return r
}

// show reads one booking from the ledger. No rider learns that it is there but the one who has it, or had it to its end: not one who gave it
// back, and not one who could accept it.
func (s *Service) show(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	b, err := s.desk.Show(ctx, bookingweb.Named(r))
	if err != nil {
		return err
	}
	if claims, _ := web.Caller(ctx); b.Rider != booking.RiderID(claims.Subject) {
		return booking.ErrNotFound
	}
	return web.WriteJSON(w, http.StatusOK, rideOf(b))
}

// list returns the bookings that the caller has, or had to their end, newest first, from the board.
func (s *Service) list(caller string, most int, before uint64, only ...board.Filter) []booking.Booking {
	return s.board.OfRider(booking.RiderID(caller), most, before, only...)
}
