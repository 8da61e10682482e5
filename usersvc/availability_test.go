package usersvc_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/web/webtest"
)

// at puts a rider somewhere.
func (e *env) at(rider booking.RiderID, lat, lng float64) {
	e.t.Helper()
	if _, _, err := e.fleet.Report(rider, fleet.Fix{Place: booking.Place{Lat: lat, Lng: lng}}); err != nil {
		e.t.Fatal(err)
	}
}

// Users are told how many free riders are near and about how far, and nothing else of them.
func TestAvailability(t *testing.T) {
	e := newEnv(t)
	says := func(query string, want map[string]any) {
		t.Helper()
		w := e.call("GET", "/availability?"+query, e.user(ulla), "")
		got := webtest.Object(t, w)
		// within an area of about 300 m
		if n, ok := got["nearest_m"].(float64); ok && want["nearest_m"] == nil {
			if least, most := want["least"].(float64), want["most"].(float64); n < least || n > most ||
				n != float64(int(n)/100*100) {
				t.Errorf("?%s: the nearest is said to be %v m away, want %v to %v", query, n, least, most)
			}
			delete(got, "nearest_m")
			delete(want, "least")
			delete(want, "most")
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("?%s: answer %v, want %v", query, got, want)
		}
		if strings.Contains(w.Body.String(), rita) {
			t.Errorf("?%s tells who is there: %s", query, w.Body)
		}
	}
	const here = "lat=12.97&lng=77.59"
	nobody := func(radius float64) map[string]any {
		return map[string]any{"raiders": 0.0, "more": false, "radius_m": radius}
	}
	somebody := func(n int, least, most float64) map[string]any {
		return map[string]any{"raiders": float64(n), "more": n == fleet.MaxCount, "radius_m": 3000.0, "least": least,
			"most": most}
	}
	says(here, nobody(3000))
	e.at(rita, 12.98, 77.59) // 1112 m
	e.at(rolf, 12.95, 77.59) // 2224 m
	e.at("far", 13.1, 77.59)
	says(here, somebody(2, 800, 1500))
	says(here+"&radius=100", nobody(100))
	e.busy[rita] = true
	says(here, somebody(1, 1900, 2600))
	if _, err := e.fleet.SetOnline(rolf, false); err != nil {
		t.Fatal(err)
	}
	says(here, nobody(3000))
	e.busy[rita] = false
	e.ahead.Store(int64(time.Minute + time.Second))
	says(here, nobody(3000))
	for i := range 2 * fleet.MaxCount {
		e.at(booking.RiderID(fmt.Sprint(i)), 12.97, 77.59)
	}
	says(here, somebody(fleet.MaxCount, 100, 400))
	e.nothingStored()
}

func TestAvailabilityRefuses(t *testing.T) {
	e := newEnv(t)
	const nowhere = "Give lat and lng once each, in degrees: /availability?lat=12.9716&lng=77.5946. radius, in metres, is optional."
	for query, sentence := range map[string]string{
		"":                         nowhere,
		"?limit=3":                 `Query parameter "limit" is unknown. This path has: lat, lng, radius.`,
		"?lat=1":                   "lng must be given once, as a number from -180 to 180, in degrees.",
		"?lat=NaN&lng=1":           "lat must be given once, as a number from -90 to 90, in degrees.",
		"?lat=1&lng=1&radius=1e99": "radius must be given once, as a number from 1 to 50000, in metres.",
	} {
		webtest.Refused(t, e.call("GET", "/availability"+query, e.user(ulla), ""), http.StatusBadRequest, sentence)
	}
}
