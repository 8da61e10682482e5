package web_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/example/pillion/web"
)

func TestParseArea(t *testing.T) {
	for _, c := range []struct {
		query string
		want  web.Area
		given bool
		says  string // in place of an answer
	}{
		{"", web.Area{}, false, ""},
		{"limit=3", web.Area{}, false, ""},
		{"lat=12.5&lng=-77.25", web.Area{Lat: 12.5, Lng: -77.25, Radius: 3000}, true, ""},
		{"lat=-90&lng=180&radius=50000&limit=3", web.Area{Lat: -90, Lng: 180, Radius: 50_000}, true, ""},
		{"lat=0&lng=0&radius=1", web.Area{Radius: 1}, true, ""},
		{"lat=1", web.Area{}, false, "lng must"},
		{"lng=1", web.Area{}, false, "lat must"},
		{"radius=100", web.Area{}, false, "lat must"},
		{"lat=&lng=1", web.Area{}, false, "lat must be given once, as a number from -90 to 90, in degrees."},
		{"lat=1&lng=1&lat=1", web.Area{}, false, "lat must"},
		{"lat=NaN&lng=1", web.Area{}, false, "lat must"},
		{"lat=1&lng=Inf", web.Area{}, false, "lng must"},
		{"lat=90.01&lng=1", web.Area{}, false, "lat must"},
		{"lat=1&lng=1e999", web.Area{}, false, "lng must"},
		{"lat=1,2&lng=1", web.Area{}, false, "lat must"},
		{"lat=1&lng=1&radius=", web.Area{}, false, "radius must be given once, as a number from 1 to 50000, in metres."},
		{"lat=1&lng=1&radius=0", web.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=-5", web.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=NaN", web.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=50001", web.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=5&radius=5", web.Area{}, false, "radius must"},
		{"lat=1&lng=1&radius=3km", web.Area{}, false, "radius must"},
	} {
		got, given, err := web.ParseArea(request("GET", "/?"+c.query, ""), 3000, 50_000)
		if got != c.want || given != c.given || (err != nil) != (c.says != "") {
			t.Errorf("?%s: %+v, %v, %v, want %+v, %v", c.query, got, given, err, c.want, c.given)
		}
		if c.says != "" && (!errors.Is(err, web.ErrArea) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("?%s: %v, want %q", c.query, err, c.says)
		}
	}
	if _, _, err := web.ParseArea(request("GET", "/?lat=1&lng=%zz", ""), 3000, 50_000); !errors.Is(err, web.ErrQuery) {
		t.Errorf("what cannot be read: %v", err)
	}
}
