package usersvc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// boardPatience is how long a list waits for the board to include what this process has written.
const boardPatience = 2 * time.Second

// ride is a booking as its user sees it. Of the rider it shows the id and nothing else.
type ride struct {
	Booking booking.ID      `json:"booking_id"`
	State   booking.State   `json:"state"`
	Rider   booking.RiderID `json:"raider_id,omitempty"`
	Pickup  *booking.Place  `json:"pickup,omitempty"`
	Dropoff *booking.Place  `json:"dropoff,omitempty"`
	*booking.Quote
	RequestedAt jsontime.Time `json:"requested_at"`
	UpdatedAt   jsontime.Time `json:"updated_at"`
	Deadline    jsontime.Time `json:"deadline"`             // until when a rider may accept
	StartCode   string        `json:"start_code,omitempty"` // what to tell the rider at the pickup; after a release it is another one
	Reason      string        `json:"reason,omitempty"`     // why it was cancelled

	UserStars  int `json:"user_stars,omitempty"`   // what the user gave
	RiderStars int `json:"raider_stars,omitempty"` // what the rider gave, once both have given any
}

// rideOf returns what the user sees of a booking, with the start code as long as the ride can begin.
func (s *Service) rideOf(b booking.Booking) ride {
	r := rideOf(b)
	r.StartCode = s.desk.StartCode(b)
	return r
}

func rideOf(b booking.Booking) ride {
	r := ride{
		Booking: b.ID, State: b.State, Rider: b.Rider, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote,
		RequestedAt: jsontime.Time(b.RequestedAt), UpdatedAt: jsontime.Time(b.UpdatedAt), Deadline: jsontime.Time(b.Deadline),
		UserStars: b.UserStars,
	}
	if b.UserStars > 0 { // nobody rates in answer to the other's rating
		r.RiderStars = b.RiderStars
	}
	if b.State == booking.StateCancelled { // else it is what a rider wrote about giving the booking back
		r.Reason = b.Reason
	}
	return r
}

// show reads one booking from the ledger. Nobody but its user learns that it is there.
func (s *Service) show(w http.ResponseWriter, r *http.Request) error {
	b, err := s.own(r.Context(), bookingweb.Named(r))
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, s.rideOf(b))
}

// own returns the caller's booking as the ledger has it. Anybody else's is booking.ErrNotFound, like one that is not there.
func (s *Service) own(ctx context.Context, id booking.ID) (booking.Booking, error) {
	b, err := s.desk.Show(ctx, id)
	if err != nil {
		return booking.Booking{}, err
	}
	if claims, _ := web.Caller(ctx); b.User != booking.UserID(claims.Subject) {
		return booking.Booking{}, booking.ErrNotFound
	}
	return b, nil
}

// list returns the caller's bookings, newest first, from the board.
func (s *Service) list(caller string, most int, before uint64, only ...board.Filter) []booking.Booking {
	return s.board.OfUser(booking.UserID(caller), most, before, only...)
}

// trusted returns nil when the board is what it must be.
func (s *Service) trusted(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}

// catchUp waits until the board can be trusted and includes this process's own writes.
func (s *Service) catchUp(ctx context.Context) error {
	if err := s.trusted(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, boardPatience)
	defer cancel()
	if err := s.board.Await(ctx, s.ledger.Appended()); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}

// cancelRequest is the body of POST /bookings/{id}/cancel: nothing at all, or why.
type cancelRequest struct {
	Reason string `json:"reason"`
}

type stepAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	ride
}

// cancel ends the caller's booking. With an Idempotency-Key a retry is told that it succeeded, as it did.
func (s *Service) cancel(w http.ResponseWriter, r *http.Request) error {
	var req cancelRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	c, _, err := bookingweb.Command(r, req, s.newID)
	if err != nil {
		return err
	}
	b, err := s.desk.Cancel(r.Context(), c, bookingweb.Named(r), req.Reason)
	if errors.Is(err, booking.ErrNotYours) {
		return booking.ErrNotFound
	}
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, stepAnswer{Success: true, Message: "Booking cancelled", ride: s.rideOf(b)})
}
