package fleet_test

import (
	"math"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
)

// A rider has come nearer after half a minute below its best distance. The greatest distance in
// that time counts.
func TestApproach(t *testing.T) {
	b := booking.Booking{ID: "one", Rider: "rita", Pickup: &town, Seq: 7}
	var free bool
	since := noon.Add(5 * time.Second)
	m, c := newMap(t, fleet.Options{Heading: func(booking.RiderID) (booking.Heading, bool) {
		return booking.Heading{Pickup: town, Seq: b.Seq, Since: since}, !free
	}})
	want := func(metres float64, at time.Time) {
		t.Helper()
		if a := m.Approach(b); math.Abs(a.Metres-metres) > 1 || !a.At.Equal(at) {
			t.Errorf(
				"after %s the rider has come %.0f m nearer at %s, want %.0f at %s",
				c.now().Sub(noon),
				a.Metres,
				a.At,
				metres,
				at,
			)
		}
	}
	ride := func(metres ...float64) { // a distance every ten seconds
		t.Helper()
		for _, d := range metres {
			c.pass(10 * time.Second)
			move(t, m, "rita", north(town, d))
		}
	}
	move(t, m, "rita", north(town, 3060)) // before the acceptance
	ride(3000)
	want(0, time.Time{})         // nothing confirms the position
	ride(3250, 3000, 2990, 2990) // the receiver errs in the beginning
	want(0, time.Time{})
	ride(2700, 2600, 2500)
	want(0, time.Time{}) // only twenty seconds
	ride(2960)           // an error of the receiver
	want(0, time.Time{})
	ride(2700, 2600, 2500, 2400)
	at := c.now()
	want(300, at)
	ride(2690, 2660, 2690, 2660, 2700, 2900, 3200, 3500)
	want(300, at) // riding to and fro, and away
	ride(3300, 3000, 2650, 2600, 2550, 2500)
	want(350, c.now())

	b.Seq = 8 // another booking
	want(0, time.Time{})
	ride(2490, 2490, 2490)
	want(0, time.Time{})
	ride(2200, 2100, 2000, 1900)
	want(290, c.now())
	free = true
	ride(1890)
	want(0, time.Time{})

	b.Pickup = nil // then movement counts
	ride(1600)
	want(0, c.now())
}
