package bookings

import (
	"net/http"
	"strconv"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// ErrArea refuses a malformed area. Its sentence names the parameter.
var ErrArea = fault.New(fault.Invalid, "area",
	"Give lat and lng once each, in degrees. radius, in metres, is optional.")

// The radius of a search, in metres.
const (
	DefaultRadius = 3_000
	MinRadius     = 1
	MaxRadius     = 50_000
)

// An Area is a circle on the map.
type Area struct {
	Center booking.Place
	Radius float64 // in metres
}

// ParseArea returns the area that a query names: ?lat=12.97&lng=77.59&radius=3000. The radius
// defaults to usual. ok is false when the query names none of the three. Errors: ErrArea.
func ParseArea(r *http.Request, usual float64) (a Area, ok bool, err error) {
	query := r.URL.Query()
	if !query.Has("lat") && !query.Has("lng") && !query.Has("radius") {
		return Area{}, false, nil
	}
	a.Radius = usual
	for _, p := range []struct {
		name     string
		to       *float64
		min, max float64
		required bool
		unit     string
	}{
		{"lat", &a.Center.Lat, -90, 90, true, "degrees"},
		{"lng", &a.Center.Lng, -180, 180, true, "degrees"},
		{"radius", &a.Radius, MinRadius, MaxRadius, false, "metres"},
	} {
		if !p.required && !query.Has(p.name) {
			continue
		}
		v, err := strconv.ParseFloat(query.Get(p.name), 64)
		if err != nil || !(v >= p.min && v <= p.max) { // also refuses NaN
			return Area{}, false, ErrArea.Sayingf("%s must be given once, as a number from %g to %g, in %s.",
				p.name, p.min, p.max, p.unit)
		}
		*p.to = v
	}
	return a, true, nil
}
