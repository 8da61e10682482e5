package usersvc

import (
	"context"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// view returns what the user sees of a booking, including the start code until the ride starts.
func (s *Service) view(b booking.Booking) bookings.View {
	v := bookings.NewView(&b)
	deadline := jsontime.Time(b.Deadline)
	v.Rider, v.Deadline, v.UserStars = b.Rider, &deadline, b.UserStars
	if b.UserStars > 0 { // the rider's rating stays hidden until the user has rated
		v.RiderStars = b.RiderStars
	}
	v.StartCode = s.c.Desk.StartCode(b)
	return v
}

// show answers with one of the caller's bookings, from the ledger. A booking of another user is not
// found.
func (s *Service) show(w http.ResponseWriter, r *http.Request) error {
	b, err := s.c.Desk.Show(r.Context(), bookings.PathID(r))
	if err != nil {
		return err
	}
	if claims, _ := web.Caller(r.Context()); b.User != booking.UserID(claims.Subject) {
		return booking.ErrNotFound
	}
	return web.WriteJSON(w, http.StatusOK, s.view(b))
}

// list returns the caller's bookings from the board, newest first.
func (s *Service) list(caller string, n int, before uint64, filters ...board.Filter) []booking.Booking {
	return s.board.OfUser(booking.UserID(caller), n, before, filters...)
}

// step answers with the outcome of a step. A booking of another user is not found.
func (s *Service) step(w http.ResponseWriter, r *http.Request, req any, message string, apply bookings.StepFunc) error {
	b, err := bookings.Step(r, req, s.c.NewID, apply)
	if err != nil {
		return err
	}
	return bookings.WriteStep(w, message, s.view(b))
}

// cancelRequest is the body of POST /bookings/{id}/cancel, which may be empty.
type cancelRequest struct {
	Reason string `json:"reason"`
}

// cancel cancels the caller's booking.
func (s *Service) cancel(w http.ResponseWriter, r *http.Request) error {
	var req cancelRequest
	return s.step(w, r, &req, "Booking cancelled",
		func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
			return s.c.Desk.Cancel(ctx, c, id, req.Reason)
		})
}

// rate stores the user's rating of the ride.
func (s *Service) rate(w http.ResponseWriter, r *http.Request) error {
	var req bookings.RateRequest
	return s.step(w, r, &req, "Ride rated",
		func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
			return s.c.Desk.Rate(ctx, c, id, req.Stars)
		})
}
