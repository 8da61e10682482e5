package web

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/example/pillion/internal/fault"
)

// ErrArea is what a request for what is near is told when it cannot be read. It comes with a sentence that says what is wrong.
var ErrArea = fault.New(fault.Invalid, "area", "Give lat and lng once each, in degrees, and radius in metres or not at all.")

// An Area is a circle on the map.
type Area struct {
	Lat, Lng float64 // of its middle, in degrees
	Radius   float64 // in metres
}

// ParseArea returns around which place something is asked for: ?lat=12.97&lng=77.59&radius=3000. Without radius it is usual, and it is most at
// most. It returns false where the request names no place, and ErrArea and ErrQuery.
func ParseArea(r *http.Request, usual, most float64) (Area, bool, error) {
	if r.URL.RawQuery == "" {
		return Area{}, false, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Area{}, false, ErrQuery.Because(err)
	}
	if !query.Has("lat") && !query.Has("lng") && !query.Has("radius") {
		return Area{}, false, nil
	}
	a := Area{Radius: usual}
	for _, p := range []struct {
		name        string
		to          *float64
		least, most float64
		needed      bool
		unit        string
	}{
		{"lat", &a.Lat, -90, 90, true, "degrees"}, {"lng", &a.Lng, -180, 180, true, "degrees"}, {"radius", &a.Radius, 1, most, false, "metres"},
	} {
		values, given := query[p.name]
		if !given && !p.needed {
			continue
		}
		v, err := math.NaN(), error(nil)
		if len(values) == 1 {
			v, err = strconv.ParseFloat(values[0], 64)
		}
		if err != nil || !(v >= p.least && v <= p.most) { // so that NaN is refused
			return Area{}, false, ErrArea.Saying(fmt.Sprintf("%s must be given once, as a number from %g to %g, in %s.", p.name, p.least, p.most, p.unit))
		}
		*p.to = v
	}
	return a, true, nil
}
