package usersvc

import (
	"context"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// bookRequest is the body of POST /book: empty, or a pickup and a dropoff.
type bookRequest struct {
	Pickup  *bookings.Coordinates `json:"pickup"`
	Dropoff *bookings.Coordinates `json:"dropoff"`
}

// trip returns the trip that b asks for. The desk checks it.
func (b bookRequest) trip() (t booking.Trip, err error) {
	for _, end := range []struct {
		from *bookings.Coordinates
		to   **booking.Place
	}{{b.Pickup, &t.Pickup}, {b.Dropoff, &t.Dropoff}} {
		if end.from == nil {
			continue
		}
		place, err := end.from.Place()
		if err != nil {
			return booking.Trip{}, err
		}
		*end.to = &place
	}
	return t, nil
}

type bookAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	User    string `json:"user"` // the caller's own email
	bookings.View
}

// book stores a new booking. With an Idempotency-Key, the booking's id derives from the user and
// the key, so that a retry finds its own booking for as long as the ledger keeps it.
func (s *Service) book(w http.ResponseWriter, r *http.Request) error {
	var req bookRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	trip, err := req.trip()
	if err != nil {
		return err
	}
	c, key, err := bookings.Command(r, req, s.c.NewID)
	if err != nil {
		return err
	}
	id := booking.ID(s.c.NewID())
	if key != "" {
		id = booking.ID(booking.DeriveID("booking", c.Actor.ID, key))
	}
	b, err := s.bookOpen(r.Context(), c, id, trip, key != "")
	if err != nil {
		return err
	}
	claims, _ := web.Caller(r.Context())
	return web.WriteJSON(w, http.StatusOK, bookAnswer{
		Success: true, Message: "Booking successful", User: claims.Email, View: s.view(b),
	})
}

// bookOpen books, unless the user has too many open bookings already. A retry gets the booking of
// the first try all the same.
func (s *Service) bookOpen(ctx context.Context, c booking.Command, id booking.ID, trip booking.Trip, retried bool,
) (booking.Booking, error) {
	user := booking.UserID(c.Actor.ID)
	if err := s.open.begin(user, id); err != nil {
		if !retried {
			return booking.Booking{}, err
		}
		if _, unknown := s.c.Desk.Show(ctx, id); unknown != nil { // by another instance, perhaps
			return booking.Booking{}, err
		}
	}
	b, err := s.c.Desk.Book(ctx, c, id, trip)
	if err != nil {
		s.open.failed(user, id)
	}
	return b, err
}
