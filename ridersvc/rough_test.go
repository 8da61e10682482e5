package ridersvc_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// Until they have accepted, riders learn of a place to some 100 metres, in the list, in the stream
// and as an offer. Who has accepted is told exactly.
func TestPlacesOfOpenBookingsAreRough(t *testing.T) {
	e := newEnv(t)
	e.tellOffers()
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	pickup, dropoff := booking.Place{Lat: 12.971234, Lng: 77.594561}, booking.Place{Lat: 12.935249, Lng: 77.624581}
	rough := []string{`"pickup":{"lat":12.971,"lng":77.595}`, `"dropoff":{"lat":12.935,"lng":77.625}`}
	e.at(rita, booking.Place{Lat: 12.97, Lng: 77.59})
	id := e.bookTrip(booking.Trip{Pickup: &pickup, Dropoff: &dropoff})

	s := webtest.Watch(t, server.URL+"/open-bookings/events", e.rider(rita))
	_, streamed := s.Want("open", string(id))
	s.Close()
	for what, said := range map[string]string{
		"the list":            e.call("GET", "/open-bookings", e.rider(rita), "").Body.String(),
		"the list of a place": e.call("GET", "/open-bookings?lat=12.97&lng=77.59", e.rider(rita), "").Body.String(),
		"the stream":          streamed,
		"the offer":           string(e.notice().Body),
	} {
		for _, want := range rough {
			if !strings.Contains(said, want) {
				t.Errorf("%s says %s, want %s", what, said, want)
			}
		}
	}
	for what, said := range map[string]string{
		"the acceptance": e.accept(rita, named(id)).Body.String(),
		"the booking":    e.call("GET", "/bookings/"+string(id), e.rider(rita), "").Body.String(),
	} {
		if want := fmt.Sprintf(`"pickup":{"lat":%v,"lng":%v}`, pickup.Lat, pickup.Lng); !strings.Contains(said, want) {
			t.Errorf("%s says %s, want %s", what, said, want)
		}
	}
}

// Nobody finds out where a pickup is by asking from many places: two that look alike are answered
// alike, whatever place and radius are asked for.
func TestNobodyTriangulatesAPickup(t *testing.T) {
	e := newEnv(t)
	one := e.bookAt(booking.Place{Lat: 12.97049, Lng: 77.59049})
	other := e.bookAt(booking.Place{Lat: 12.96951, Lng: 77.58951})
	for i := range 40 {
		at := north(float64(53 * i))
		for radius := 1; radius < 2500; radius += 97 {
			w := e.call("GET", fmt.Sprintf("/open-bookings?lat=%v&lng=%v&radius=%d", at.Lat, at.Lng, radius), e.rider(rita), "")
			found := webtest.Object(t, w)["bookings"].([]any)
			if len(found) != 0 && len(found) != 2 {
				t.Fatalf("%s and %s are told apart from %v within %d m: %s", one, other, at, radius, w.Body)
			}
			if len(found) == 2 && found[0].(map[string]any)["pickup_distance_m"] !=
				found[1].(map[string]any)["pickup_distance_m"] {
				t.Fatalf("%s and %s are told apart by their distances: %s", one, other, w.Body)
			}
		}
	}
}
