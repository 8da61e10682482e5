package usersvc

import (
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// bookRequest is the body of POST /book: nothing at all, or where from and where to.
type bookRequest struct {
	Pickup  *place `json:"pickup"`
	Dropoff *place `json:"dropoff"`
}

// place has pointers, so that a number that was left out is not taken for the equator or for Greenwich.
type place struct {
	Lat *float64 `json:"lat"`
	Lng *float64 `json:"lng"`
}

func (p *place) decode() (*booking.Place, error) {
	if p == nil {
		return nil, nil
	}
	if p.Lat == nil || p.Lng == nil {
		return nil, booking.ErrInvalidPlace.Saying("A place needs both lat and lng, as numbers of degrees.")
	}
	return &booking.Place{Lat: *p.Lat, Lng: *p.Lng}, nil
}

func (b bookRequest) trip() (booking.Trip, error) {
	pickup, err := b.Pickup.decode()
	if err != nil {
		return booking.Trip{}, err
	}
	dropoff, err := b.Dropoff.decode()
	if err != nil {
		return booking.Trip{}, err
	}
	return booking.Trip{Pickup: pickup, Dropoff: dropoff}, nil // whether it makes sense, the desk says
}

type bookAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	User    string `json:"user"` // the caller's own email
	ride
}

// book stores a new booking. With an Idempotency-Key the booking's id comes from the user and the key, so that a retry meets its
// own booking for as long as the ledger remembers it.
func (s *Service) book(w http.ResponseWriter, r *http.Request) error {
	var req bookRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	trip, err := req.trip()
	if err != nil {
		return err
	}
	c, key, err := bookingweb.Command(r, req, s.newID)
	if err != nil {
		return err
	}
	id := booking.ID(s.newID())
	if key != "" {
		id = booking.ID(booking.DeriveID("booking", c.Actor.ID, key))
	}
	b, err := s.desk.Book(r.Context(), c, id, trip)
	if err != nil {
		return err
	}
	claims, _ := web.Caller(r.Context())
	return web.WriteJSON(w, http.StatusOK, bookAnswer{Success: true, Message: "Booking successful", User: claims.Email, ride: s.rideOf(b)})
}
