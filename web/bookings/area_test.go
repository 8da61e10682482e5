package bookings_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

func TestParseArea(t *testing.T) {
	for _, c := range []struct {
		query string
		want  bookings.Area
		given bool
		says  string // in place of an answer
	}{
		{"", bookings.Area{}, false, ""},
		{"limit=3", bookings.Area{}, false, ""},
		{"lat=12.5&lng=-77.25", bookings.Area{Center: booking.Place{Lat: 12.5, Lng: -77.25}, Radius: 3000}, true, ""},
		{"lat=-90&lng=180&radius=50000&limit=3", bookings.Area{Center: booking.Place{Lat: -90, Lng: 180}, Radius: 50_000}, true, ""},
		{"lat=0&lng=0&radius=1", bookings.Area{Radius: 1}, true, ""},
		{"lat=1", bookings.Area{}, false, "lng must"},
		{"lng=1", bookings.Area{}, false, "lat must"},
		{"radius=100", bookings.Area{}, false, "lat must"},
		{"lat=&lng=1", bookings.Area{}, false, "lat must be given once, as a number from -90 to 90, in degrees."},
		{"lat=NaN&lng=1", bookings.Area{}, false, "lat must"},
		{"lat=1&lng=Inf", bookings.Area{}, false, "lng must"},
		{"lat=90.01&lng=1", bookings.Area{}, false, "lat must"},
		{"lat=1&lng=1e999", bookings.Area{}, false, "lng must"},
		{"lat=1,2&lng=1", bookings.Area{}, false, "lat must"},
		{"lat=1&lng=1&radius=", bookings.Area{}, false, "radius must be given once, as a number from 1 to 50000, in metres."},
		{"lat=1&lng=1&radius=0", bookings.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=-5", bookings.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=NaN", bookings.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=50001", bookings.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=3km", bookings.Area{}, false, "radius must"},
	} {
		got, given, err := bookings.ParseArea(webtest.Request("GET", "/?"+c.query, "", ""), 3000)
		if got != c.want || given != c.given || (err != nil) != (c.says != "") {
			t.Errorf("?%s: %+v, %v, %v, want %+v, %v", c.query, got, given, err, c.want, c.given)
		}
		if c.says != "" && (!errors.Is(err, bookings.ErrArea) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("?%s: %v, want %q", c.query, err, c.says)
		}
	}
}
