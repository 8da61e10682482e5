package ridersvc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// A step is what a rider does with the booking that the path names.
type step func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error)

type stepAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	ride
}

// step decodes the body into req, and takes the next step of the ride. A retry is told what the
// first try came to, and so is a rider who repeats a step without an Idempotency-Key.
func (s *Service) step(w http.ResponseWriter, r *http.Request, req any, take step) (booking.Booking, error) {
	if err := web.DecodeOptional(r, req); err != nil {
		return booking.Booking{}, err
	}
	c, _, err := bookingweb.Command(r, req, s.newID)
	if err != nil {
		return booking.Booking{}, err
	}
	return take(r.Context(), c, bookingweb.Named(r))
}

func (s *Service) answer(w http.ResponseWriter, message string, b booking.Booking, err error) error {
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, stepAnswer{Success: true, Message: message, ride: rideOf(b)})
}

// nothing is the body of a call that needs none.
type nothing struct{}

// arrive says that the rider is at the pickup.
func (s *Service) arrive(w http.ResponseWriter, r *http.Request) error {
	rider := caller(r)
	b, err := s.step(w, r, new(nothing), func(ctx context.Context, c booking.Command, id booking.ID) (b booking.Booking, err error) {
		err = s.settled(ctx, rider, func() error {
			b, err = s.desk.ArriveIf(ctx, c, id, func(b booking.Booking) error { return s.isThere(rider, b) })
			return err
		})
		return b, err
	})
	return s.answer(w, "Arrival noted", b, err)
}

// isThere returns nil for a rider who is at the pickup, as far as a position says so that is not
// too old, and where there is a pickup.
func (s *Service) isThere(rider booking.RiderID, b booking.Booking) error {
	if s.within == 0 || b.Pickup == nil {
		return nil
	}
	at, known := s.fleet.Where(rider)
	if !known {
		return ErrWhereabouts
	}
	if metres := at.Distance(*b.Pickup); metres > s.within {
		return ErrNotThere.Saying(fmt.Sprintf("You are %.1f km from the pickup, and can arrive within %g m of it. "+
			"Report your position with PUT /position when you are there, and then say that you have arrived.", metres/1000, s.within))
	}
	return nil
}

// hearsay is how long this instance waits to hear what a rider has just reported to another one.
const hearsay = 500 * time.Millisecond

// settled calls try again while the only thing against it is where the rider is, for as long as
// another instance may know better.
func (s *Service) settled(ctx context.Context, rider booking.RiderID, try func() error) error {
	positions, stop := s.fleet.Watch(rider)
	defer stop()
	limit := time.NewTimer(hearsay)
	defer limit.Stop()
	for {
		err := try()
		if !errors.Is(err, ErrWhereabouts) && !errors.Is(err, ErrNotThere) {
			return err
		}
		select {
		case <-positions:
		case <-limit.C:
			return try() // of a position that nothing confirms yet nobody is told
		case <-ctx.Done():
			return err
		}
	}
}

// startRequest is the body of POST /bookings/{id}/start.
type startRequest struct {
	Code string `json:"start_code"` // the four digits that the passenger says
}

// MarshalJSON leaves out the code, which is to be found nowhere, not even as a fingerprint that ten
// thousand tries undo. So a retry is the same request whatever code it brings, and gets the outcome
// of the first try.
func (startRequest) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

// start begins the ride, with the passenger's start code.
func (s *Service) start(w http.ResponseWriter, r *http.Request) error {
	var req startRequest
	b, err := s.step(w, r, &req, func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
		if !validCode(req.Code) { // a slip of the finger is not a try
			return booking.Booking{}, ErrStartCode
		}
		return s.desk.StartWith(ctx, c, id, req.Code)
	})
	return s.answer(w, "Ride started", b, err)
}

// validCode reports whether s could be a start code.
func validCode(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == booking.StartCodeDigits
}

// complete ends the ride.
func (s *Service) complete(w http.ResponseWriter, r *http.Request) error {
	b, err := s.step(w, r, new(nothing), s.desk.Complete)
	return s.answer(w, "Ride completed", b, err)
}

// releaseRequest is the body of POST /bookings/{id}/release: nothing at all, or why.
type releaseRequest struct {
	Reason string `json:"reason"`
}

// releaseAnswer shows nothing more of a booking that is no longer the rider's.
type releaseAnswer struct {
	Success bool          `json:"success"`
	Message string        `json:"message"`
	Booking booking.ID    `json:"booking_id"`
	State   booking.State `json:"state"`
}

// release gives the booking back, for others to accept.
func (s *Service) release(w http.ResponseWriter, r *http.Request) error {
	var req releaseRequest
	b, err := s.step(w, r, &req, func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
		return s.desk.Release(ctx, c, id, req.Reason)
	})
	if err != nil {
		return err
	}
	answer := releaseAnswer{Success: true, Message: "Booking given back", Booking: b.ID, State: booking.StateOpen} // whatever has become of it since
	return web.WriteJSON(w, http.StatusOK, answer)
}

// rateRequest is the body of POST /bookings/{id}/rate.
type rateRequest struct {
	Stars int `json:"stars"` // 1 to 5
}

// rate says how the ride was.
func (s *Service) rate(w http.ResponseWriter, r *http.Request) error {
	var req rateRequest
	b, err := s.step(w, r, &req, func(ctx context.Context, c booking.Command, id booking.ID) (booking.Booking, error) {
		return s.desk.Rate(ctx, c, id, req.Stars)
	})
	return s.answer(w, "Ride rated", b, err)
}
