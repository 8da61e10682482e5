package usersvc

import (
	"math"
	"net/http"

	"github.com/example/pillion/fleet"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// errNoPlace refuses a search that names no place.
var errNoPlace = bookings.ErrArea.Saying("Give lat and lng once each, in degrees: " +
	"/availability?lat=12.9716&lng=77.5946. radius, in metres, is optional.")

type availabilityAnswer struct {
	Riders  int    `json:"raiders"`             // the original API's spelling
	More    bool   `json:"more"`                // the count has reached its limit
	Nearest *int64 `json:"nearest_m,omitempty"` // nil if no rider is near
	Radius  int64  `json:"radius_m"`
}

// distanceStep is what the distance to the nearest rider is rounded up to, in metres. The distance
// is measured to the middle of a map cell about three times as wide.
const distanceStep = 100

// availability answers how many free riders are near a place and how far the nearest is, roughly.
// It reveals neither who they are nor exactly where.
func (s *Service) availability(w http.ResponseWriter, r *http.Request) error {
	area, ok, err := bookings.ParseArea(r, s.c.Radius)
	if err != nil {
		return err
	}
	if !ok {
		return errNoPlace
	}
	found := s.c.Fleet.Around(area.Center, area.Radius)
	answer := availabilityAnswer{
		Riders: found.Riders, More: found.Riders == fleet.MaxCount, Radius: int64(math.Round(area.Radius)),
	}
	if found.Riders > 0 {
		nearest := int64(math.Ceil(max(found.Metres, 1)/distanceStep)) * distanceStep
		answer.Nearest = &nearest
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}
