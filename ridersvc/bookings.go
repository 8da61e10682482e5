package ridersvc

import (
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// view returns what the rider of a booking sees of it.
func view(b booking.Booking) bookings.View {
	v := bookings.NewView(&b)
	v.User, v.RiderStars = b.User, b.RiderStars
	if b.RiderStars > 0 { // the user's rating stays hidden until the rider has rated
		v.UserStars = b.UserStars
	}
	return v
}

// show answers with a booking of the caller, from the ledger. A booking is not found for other
// riders, including one who has released it and one who may accept it.
func (s *Service) show(w http.ResponseWriter, r *http.Request) error {
	b, err := s.c.Desk.Show(r.Context(), bookings.PathID(r))
	if err != nil {
		return err
	}
	if b.Rider != caller(r) {
		return booking.ErrNotFound
	}
	return web.WriteJSON(w, http.StatusOK, view(b))
}

// list returns the bookings that the caller has accepted and not released, from the board, newest
// first.
func (s *Service) list(caller string, n int, before uint64, filters ...board.Filter) []booking.Booking {
	return s.board.OfRider(booking.RiderID(caller), n, before, filters...)
}
