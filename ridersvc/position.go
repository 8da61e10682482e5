package ridersvc

import (
	"fmt"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/web"
)

// positionRequest has pointers, so that a number that was left out is not taken for the equator or for Greenwich.
type positionRequest struct {
	Lat      *float64 `json:"lat"`
	Lng      *float64 `json:"lng"`
	At       *string  `json:"at"`       // RFC 3339; when the rider was there
	Accuracy *float64 `json:"accuracy"` // in metres
}

// fix returns what is reported at a time, where that can be.
func (p positionRequest) fix(now time.Time) (fleet.Fix, error) {
	if p.Lat == nil || p.Lng == nil {
		return fleet.Fix{}, booking.ErrInvalidPlace.Saying("A position needs both lat and lng, as numbers of degrees.")
	}
	f := fleet.Fix{Place: booking.Place{Lat: *p.Lat, Lng: *p.Lng}}
	if p.At != nil {
		at, err := time.Parse(time.RFC3339, *p.At)
		if err != nil {
			return fleet.Fix{}, fleet.ErrFixTime.
				Saying("The time at of a position must be written as in 2026-03-01T08:00:00.000Z.").Because(err)
		}
		f.At = at
	}
	if p.Accuracy != nil {
		f.Accuracy = *p.Accuracy
	}
	return f, f.Valid(now)
}

type positionAnswer struct {
	Success bool          `json:"success"`
	Message string        `json:"message"`
	Online  bool          `json:"online"`
	Ignored fleet.Verdict `json:"ignored,omitempty"` // why the position is not taken for where the rider is
}

// ignored says what is told of a position that is not taken for where the rider is.
var ignored = map[fleet.Verdict]string{
	fleet.Stale: "Position ignored: a newer one is known",
	fleet.Implausible: "Position ignored: it is too far from the last one for the time between them. " +
		"Go on reporting: if it is right, it will be believed",
	fleet.Inaccurate: fmt.Sprintf("Position ignored: it must be accurate to %d metres", fleet.MaxInaccuracy),
}

// move takes where the caller is. Who has said to be offline stays so; everybody else is online by it, so that a rider's app need not say more.
func (s *Service) move(w http.ResponseWriter, r *http.Request) error {
	var req positionRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	fix, err := req.fix(s.now())
	if err != nil {
		return err
	}
	if err := s.remember(r.Context(), caller(r)); err != nil {
		return err
	}
	status, verdict, err := s.fleet.Report(caller(r), fix)
	if err != nil {
		return err
	}
	if verdict != fleet.Believed {
		return web.WriteJSON(w, http.StatusOK, positionAnswer{
			Success: true, Message: ignored[verdict], Online: status.Online, Ignored: verdict,
		})
	}
	return s.report(w, r, "Position updated", status)
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
	if err := s.roster.Say(r.Context(), caller(r), online, s.now()); err != nil {
		return err
	}
	status, err := s.fleet.SetOnline(caller(r), online)
	if err != nil {
		return err
	}
	return s.report(w, r, message, status)
}

// report tells the other instances what is known of the caller. Where it cannot tell them the
// caller is asked to say it again: it is known here all the same.
func (s *Service) report(w http.ResponseWriter, r *http.Request, message string, status fleet.Status) error {
	ctx := r.Context()
	if err := s.announce(ctx, status); err != nil {
		return err
	}
	s.offers.look(ctx, status.Rider)
	return web.WriteJSON(w, http.StatusOK, positionAnswer{Success: true, Message: message, Online: status.Online})
}

// caller returns the rider who calls.
func caller(r *http.Request) booking.RiderID {
	claims, _ := web.Caller(r.Context())
	return booking.RiderID(claims.Subject)
}
