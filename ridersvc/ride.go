package ridersvc

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// step answers with the outcome of a step of the ride.
func (s *Service) step(w http.ResponseWriter, r *http.Request, req any, message string, apply bookings.StepFunc) error {
	b, err := bookings.Step(r, req, s.c.NewID, apply)
	if err != nil {
		return err
	}
	return bookings.WriteStep(w, message, view(b))
}

// arrive records that the rider is at the pickup.
func (s *Service) arrive(w http.ResponseWriter, r *http.Request) error {
	rider := caller(r)
	return s.step(w, r, new(struct{}), "Arrival noted",
		func(ctx context.Context, c booking.Command, id booking.ID) (b booking.Booking, err error) {
			err = s.retryPosition(ctx, rider, func() error {
				b, err = s.c.Desk.ArriveIf(ctx, c, id, func(b booking.Booking) error { return s.isThere(rider, b) })
				return err
			})
			return b, err
		})
}

// isThere checks that a rider is at the pickup of b, if b has one, by a recent position. Errors:
// ErrWhereabouts, ErrNotThere.
func (s *Service) isThere(rider booking.RiderID, b booking.Booking) error {
	if s.c.Within == 0 || b.Pickup == nil {
		return nil
	}
	at, known := s.c.Fleet.Where(rider)
	if !known {
		return ErrWhereabouts
	}
	if metres := at.Distance(*b.Pickup); metres > s.c.Within {
		return ErrNotThere.Sayingf("You are %.1f km from the pickup. Arrival requires a position "+
			"within %g m of it. "+
			"When you are there, report your position with PUT /position and try again.", metres/1000, s.c.Within)
	}
	return nil
}

// positionDelay is how long a position takes at most from the instance it was reported to.
const positionDelay = 500 * time.Millisecond

// retryPosition calls try again at each new position of the rider while it fails because of the
// position. It stops when another instance can have no newer one.
func (s *Service) retryPosition(ctx context.Context, rider booking.RiderID, try func() error) error {
	positions, stop := s.c.Fleet.Watch(rider)
	defer stop()
	limit := time.NewTimer(positionDelay)
	defer limit.Stop()
	for {
		err := try()
		if !errors.Is(err, ErrWhereabouts) && !errors.Is(err, ErrNotThere) {
			return err
		}
		select {
		case <-positions:
		case <-limit.C:
			return try()
		case <-ctx.Done():
			return err
		}
	}
}

// startRequest is the body of POST /bookings/{id}/start.
type startRequest struct {
	Code string `json:"start_code"` // four digits, which the user tells the rider
}

// MarshalJSON omits the code from the command's fingerprint, from which ten thousand tries would
// recover it. Thus a retry is the same request whatever its code, and gets the outcome of the first
// try.
func (startRequest) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

// start starts the ride with the user's start code.
func (s *Service) start(w http.ResponseWriter, r *http.Request) error {
	var req startRequest
	return s.step(w, r, &req, "Ride started",
		func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
			if !validCode(req.Code) { // a typing error does not use up a try
				return booking.Booking{}, ErrStartCode
			}
			return s.c.Desk.StartWith(ctx, c, id, req.Code)
		})
}

// validCode reports whether s has the form of a start code.
func validCode(s string) bool {
	return len(s) == booking.StartCodeDigits && strings.Trim(s, "0123456789") == ""
}

// complete ends the ride.
func (s *Service) complete(w http.ResponseWriter, r *http.Request) error {
	return s.step(w, r, new(struct{}), "Ride completed", s.c.Desk.Complete)
}

// releaseRequest is the body of POST /bookings/{id}/release, which may be empty.
type releaseRequest struct {
	Reason string `json:"reason"`
}

// releaseAnswer shows little of a booking that is no longer the rider's.
type releaseAnswer struct {
	Success bool          `json:"success"`
	Message string        `json:"message"`
	Booking booking.ID    `json:"booking_id"`
	State   booking.State `json:"state"`
}

// release gives the booking back, so that other riders can accept it.
func (s *Service) release(w http.ResponseWriter, r *http.Request) error {
	var req releaseRequest
	b, err := bookings.Step(r, &req, s.c.NewID,
		func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
			return s.c.Desk.Release(ctx, c, id, req.Reason)
		})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, releaseAnswer{
		Success: true, Message: "Booking given back", Booking: b.ID,
		State: booking.StateOpen, // even if another rider has accepted it since
	})
}

// rate stores the rider's rating of the ride.
func (s *Service) rate(w http.ResponseWriter, r *http.Request) error {
	var req bookings.RateRequest
	return s.step(w, r, &req, "Ride rated",
		func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
			return s.c.Desk.Rate(ctx, c, id, req.Stars)
		})
}
