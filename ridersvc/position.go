package ridersvc

import (
	"net/http"

	"pillion/booking"
	"pillion/fleet"
	"pillion/web"
)

// positionRequest has pointers, so that a number that was left out is not taken for the equator or for Greenwich.
type positionRequest struct {
	Lat *float64 `json:"lat"`
	Lng *float64 `json:"lng"`
}

type positionAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Online  bool   `json:"online"`
}

// move takes where the caller is. Who has said to be offline stays so; everybody else is online by it, so that a rider's app need not say more.
func (s *Service) move(w http.ResponseWriter, r *http.Request) error {
	var req positionRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	if req.Lat == nil || req.Lng == nil {
		return booking.ErrInvalidPlace.Saying("A position needs both lat and lng, as numbers of degrees.")
	}
	return s.report(w, r, "Position updated", func(id booking.RiderID) (fleet.Status, error) {
		return s.fleet.Move(id, booking.Place{Lat: *req.Lat, Lng: *req.Lng})
	})
}

// online takes the caller for somebody to offer rides to, as soon as it is known where.
func (s *Service) online(w http.ResponseWriter, r *http.Request) error {
	return s.say(w, r, true, "You are online")
}

// offline takes the caller for nobody to offer rides to, whatever positions come, until it says to be online.
func (s *Service) offline(w http.ResponseWriter, r *http.Request) error {
	return s.say(w, r, false, "You are offline")
}

func (s *Service) say(w http.ResponseWriter, r *http.Request, online bool, message string) error {
	var nothing struct{}
	if err := web.DecodeOptional(r, &nothing); err != nil {
		return err
	}
	return s.report(w, r, message, func(id booking.RiderID) (fleet.Status, error) { return s.fleet.Say(id, online) })
}

// report takes what the caller says of itself, and tells the other instances. Where it cannot tell them the caller is asked to say it again: it is
// known here all the same.
func (s *Service) report(w http.ResponseWriter, r *http.Request, message string, take func(booking.RiderID) (fleet.Status, error)) error {
	ctx := r.Context()
	claims, _ := web.Caller(ctx)
	status, err := take(booking.RiderID(claims.Subject))
	if err != nil {
		return err
	}
	if err := s.announce(ctx, status); err != nil {
		return err
	}
	s.offers.look(ctx, status.Rider)
	return web.WriteJSON(w, http.StatusOK, positionAnswer{Success: true, Message: message, Online: status.Online})
}
