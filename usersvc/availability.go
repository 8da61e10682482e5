package usersvc

import (
	"fmt"
	"math"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/web"
)

// errNowhere is said to who asks for riders near to nothing.
var errNowhere = web.ErrArea.Saying("Give lat and lng once each, in degrees: /availability?lat=12.9716&lng=77.5946. A radius in metres may be added.")

type availabilityAnswer struct {
	Riders  int    `json:"raiders"`             // the original API's spelling, as everywhere on the wire
	More    bool   `json:"more"`                // there may be more than that
	Nearest *int64 `json:"nearest_m,omitempty"` // nil: nobody is near
	Radius  int64  `json:"radius_m"`
}

// coarse is to what the distance of the nearest rider is rounded up, in metres. What is measured is the middle of an area of three times that.
const coarse = 100

// availability says how many free riders there are near a place, and how far the nearest is: nothing of who they are, and not exactly where.
func (s *Service) availability(w http.ResponseWriter, r *http.Request) error {
	area, ok, err := web.ParseArea(r, s.radius, MaxRadius)
	if err != nil {
		return err
	}
	if !ok {
		return errNowhere
	}
	found := s.fleet.Around(booking.Place{Lat: area.Lat, Lng: area.Lng}, area.Radius)
	answer := availabilityAnswer{Riders: found.Riders, More: found.Riders == fleet.MaxCount, Radius: int64(math.Round(area.Radius))}
	if found.Riders > 0 {
		nearest := int64(math.Ceil(max(found.Metres, 1)/coarse)) * coarse
		answer.Nearest = &nearest
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}

// How far riders are looked for, in metres.
const (
	DefaultRadius = 3_000
	MaxRadius     = 50_000
)

// checkRadius returns the radius to use, or an error.
func checkRadius(radius float64) (float64, error) {
	if radius == 0 {
		return DefaultRadius, nil
	}
	if !(radius >= 1 && radius <= MaxRadius) {
		return 0, fmt.Errorf("usersvc: Radius must be from 1 to %d metres, not %g", MaxRadius, radius)
	}
	return radius, nil
}
