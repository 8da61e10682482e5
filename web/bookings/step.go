package bookings

import (
	"context"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
)

// A StepFunc applies a command to a booking, and returns the booking afterwards.
type StepFunc func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error)

// Step decodes the body of r into req, which may be empty, and applies the caller's command to the
// booking that the path names. A repeated step gets the outcome of the first one. Errors: those of
// web.DecodeOptional, Command and apply.
func Step(r *http.Request, req any, newID func() string, apply StepFunc) (booking.Booking, error) {
	if err := web.DecodeOptional(r, req); err != nil {
		return booking.Booking{}, err
	}
	c, _, err := Command(r, req, newID)
	if err != nil {
		return booking.Booking{}, err
	}
	return apply(r.Context(), c, PathID(r))
}

type stepAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	View
}

// WriteStep answers a successful step with a message and the booking.
func WriteStep(w http.ResponseWriter, message string, v View) error {
	return web.WriteJSON(w, http.StatusOK, stepAnswer{Success: true, Message: message, View: v})
}

// RateRequest is the body of POST /bookings/{id}/rate.
type RateRequest struct {
	Stars int `json:"stars"` // 1 to 5
}

// Coordinates are a place in a request body. They are pointers to tell a missing number from zero.
type Coordinates struct {
	Lat *float64 `json:"lat"`
	Lng *float64 `json:"lng"`
}

// Place returns the place. It does not check that the place exists. Errors: booking.ErrInvalidPlace
// when a coordinate is missing.
func (c Coordinates) Place() (booking.Place, error) {
	if c.Lat == nil || c.Lng == nil {
		return booking.Place{}, booking.ErrInvalidPlace.Saying("A place needs both lat and lng, as numbers of degrees.")
	}
	return booking.Place{Lat: *c.Lat, Lng: *c.Lng}, nil
}
