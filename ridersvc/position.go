package ridersvc

import (
	"fmt"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// positionRequest is the body of PUT /position.
type positionRequest struct {
	bookings.Coordinates
	At       *string  `json:"at"`       // RFC 3339: when the rider was there
	Accuracy *float64 `json:"accuracy"` // in metres
}

// fix returns the position that p reports. Errors: booking.ErrInvalidPlace, fleet.ErrFixTime, and
// others of fleet.Fix.Valid.
func (p positionRequest) fix(now time.Time) (fleet.Fix, error) {
	place, err := p.Place()
	if err != nil {
		return fleet.Fix{}, err
	}
	f := fleet.Fix{Place: place}
	if p.At != nil {
		at, err := time.Parse(time.RFC3339, *p.At)
		if err != nil {
			return fleet.Fix{}, fleet.ErrFixTime.
				Saying("The field at must be a time, as in 2026-03-01T08:00:00.000Z.").Because(err)
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
	Ignored fleet.Verdict `json:"ignored,omitempty"` // why the position was ignored
}

// ignoredMessages are the messages about ignored positions.
var ignoredMessages = map[fleet.Verdict]string{
	fleet.Stale: "Position ignored: a newer one is known",
	fleet.Implausible: "Position ignored: it is too far from the last one for the time between them. " +
		"Keep reporting: if the new position is right, it will be accepted",
	fleet.Inaccurate: fmt.Sprintf("Position ignored: it must be accurate to %d metres", fleet.MaxInaccuracy),
}

// move stores the caller's position. A report makes a rider online unless the rider has gone
// offline with POST /offline.
func (s *Service) move(w http.ResponseWriter, r *http.Request) error {
	var req positionRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	fix, err := req.fix(s.c.Now())
	if err != nil {
		return err
	}
	if err := s.loadStatus(r.Context(), caller(r)); err != nil {
		return err
	}
	status, verdict, err := s.c.Fleet.Report(caller(r), fix)
	if err != nil {
		return err
	}
	if verdict != fleet.Believed {
		return web.WriteJSON(w, http.StatusOK, positionAnswer{
			Success: true, Message: ignoredMessages[verdict], Online: status.Online, Ignored: verdict,
		})
	}
	return s.report(w, r, "Position updated", status)
}

// online makes the caller a candidate for bookings as soon as its position is known.
func (s *Service) online(w http.ResponseWriter, r *http.Request) error {
	return s.setOnline(w, r, true, "You are online")
}

// offline ends that, whatever positions the caller reports, until it goes online again.
func (s *Service) offline(w http.ResponseWriter, r *http.Request) error {
	return s.setOnline(w, r, false, "You are offline")
}

// setOnline stores whether the caller is online.
func (s *Service) setOnline(w http.ResponseWriter, r *http.Request, online bool, message string) error {
	if err := web.DecodeOptional(r, new(struct{})); err != nil {
		return err
	}
	if err := s.c.Roster.Say(r.Context(), caller(r), online, s.c.Now()); err != nil {
		return err
	}
	status, err := s.c.Fleet.SetOnline(caller(r), online)
	if err != nil {
		return err
	}
	return s.report(w, r, message, status)
}

// report announces the caller's status to the other instances. If that fails, the status stays
// stored here, and the caller gets an error and repeats the report.
func (s *Service) report(w http.ResponseWriter, r *http.Request, message string, status fleet.Status) error {
	ctx := r.Context()
	if err := s.c.Announce(ctx, status); err != nil {
		return err
	}
	s.offers.reported(ctx, status.Rider)
	return web.WriteJSON(w, http.StatusOK, positionAnswer{Success: true, Message: message, Online: status.Online})
}

// caller returns the rider who sent r.
func caller(r *http.Request) booking.RiderID {
	claims, _ := web.Caller(r.Context())
	return booking.RiderID(claims.Subject)
}
