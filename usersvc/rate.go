package usersvc

import (
	"errors"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// rateRequest is the body of POST /bookings/{id}/rate.
type rateRequest struct {
	Stars int `json:"stars"` // 1 to 5
}

// rate says how the ride was. With an Idempotency-Key a retry is told that it succeeded, as it did.
func (s *Service) rate(w http.ResponseWriter, r *http.Request) error {
	var req rateRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	c, _, err := bookingweb.Command(r, req, s.newID)
	if err != nil {
		return err
	}
	b, err := s.desk.Rate(r.Context(), c, bookingweb.Named(r), req.Stars)
	if errors.Is(err, booking.ErrNotYours) {
		return booking.ErrNotFound
	}
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, stepAnswer{Success: true, Message: "Ride rated", ride: s.rideOf(b)})
}
