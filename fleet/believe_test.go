package fleet_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/fleet"
)

// abroad is on another continent.
var abroad = booking.Place{Lat: 40.7, Lng: -74}

// Reports are ordered by their own time, and one that no bike could make is neither told nor
// counted, unless others confirm it.
func TestMoveIsBelieved(t *testing.T) {
	type report struct {
		after    time.Duration // the one before
		place    booking.Place
		ago      time.Duration // 0: it does not say when it was
		accuracy float64
		want     fleet.Verdict
		told     bool // to watchers
	}
	const s = time.Second
	for name, track := range map[string][]report{
		"a ride": {
			{0, town, 0, 0, "", true}, {4 * s, north(town, 60), 0, 5, "", true}, {4 * s, north(town, 120), s, 0, "", true}, {60 * s, north(town, 1000), 0, 0, "", true},
		},
		"late and repeated": {
			{0, town, 10 * s, 0, "", true}, {0, town, 10 * s, 0, fleet.Late, false}, {0, north(town, 30), 12 * s, 0, fleet.Late, false},
			{0, north(town, 30), 9 * s, 0, "", true}, {0, north(town, 40), 0, 0, "", true}, {0, north(town, 40), s, 0, fleet.Late, false},
		},
		"buffered in a tunnel": {
			{0, town, 0, 0, "", true}, {120 * s, north(town, 1000), 80 * s, 0, "", true}, {0, north(town, 2000), 40 * s, 0, "", true}, {0, north(town, 3000), s, 0, "", true},
		},
		"a jump and back": {
			{0, town, 0, 0, "", true}, {s, north(town, 10), 0, 0, "", true}, {s / 2, abroad, 0, 0, fleet.Leap, false}, {s / 2, north(town, 20), 0, 0, "", true},
			{s, north(town, 3000), 0, 0, fleet.Leap, false}, {s, north(town, 30), 0, 0, "", true},
		},
		"jumps for 20 s": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {s, abroad, 0, 0, fleet.Leap, false}, {20 * s, abroad, 0, 0, fleet.Leap, false}, {s, north(town, 100), 0, 0, "", true},
		},
		"a jump after a silence": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {300 * s, abroad, 0, 0, fleet.Leap, false}, {4 * s, abroad, 0, 0, fleet.Leap, false}, {4 * s, north(town, 1000), 0, 0, "", true},
		},
		"far away after a silence": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {300 * s, north(town, 5000), 0, 0, "", false}, {4 * s, north(town, 5040), 0, 0, "", true},
		},
		"a wrong first report": {
			{0, abroad, 0, 0, "", true}, {4 * s, town, 0, 0, "", false}, {4 * s, north(town, 30), 0, 0, "", true},
		},
		"a wrong second report": {
			{0, town, 0, 0, "", true}, {4 * s, abroad, 0, 0, "", false}, {4 * s, north(town, 30), 0, 0, "", true}, {4 * s, abroad, 0, 0, fleet.Leap, false},
		},
		"a wrong place that was confirmed": {
			{0, abroad, 0, 0, "", true}, {s, abroad, 0, 0, "", true}, {s, town, 0, 0, fleet.Leap, false}, {15 * s, north(town, 100), 0, 0, fleet.Leap, false},
			{14 * s, north(town, 100), 0, 0, fleet.Leap, false}, {s, north(town, 200), 0, 0, "", true}, {s, north(town, 210), 0, 0, "", true},
		},
		"inaccurate": {
			{0, town, 0, 501, fleet.Coarse, false}, {s, town, 0, 500, "", true}, {s, north(town, 330), 0, 200, "", true}, {s, north(town, 1000), 0, 500, fleet.Leap, false},
		},
		"a clock a little ahead": {
			{0, town, -5 * s, 0, "", true}, {s, north(town, 10), -5 * s, 0, "", true}, {s, north(town, 20), 0, 0, "", true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, c := newMap(t, fleet.Options{})
			told, stop := m.Watch("rita")
			defer stop()
			var last booking.Place
			for i, r := range track {
				c.pass(r.after)
				fix := fleet.Fix{Place: r.place, Accuracy: r.accuracy}
				was := c.now()
				if r.ago != 0 {
					fix.At = was.Add(-r.ago)
					was = was.Add(-max(0, r.ago))
				}
				_, verdict, err := m.Move("rita", fix)
				if err != nil || verdict != r.want {
					t.Fatalf("report %d: %q, %v, want %q", i, verdict, err, r.want)
				}
				if verdict == fleet.Taken {
					last = r.place
				}
				if p, ok := m.Last("rita"); ok && p.Place != last {
					t.Errorf("after report %d the rider is at %v", i, p.Place)
				}
				if !r.told {
					nothing(t, told)
				} else if p := next(t, told); p.Place != r.place || !p.At.Equal(was) {
					t.Errorf("of report %d is told %+v", i, p)
				}
			}
		})
	}
}

func TestFixesThatCannotBe(t *testing.T) {
	m, c := newMap(t, fleet.Options{})
	for _, f := range []struct {
		fix  fleet.Fix
		want error
	}{
		{fleet.Fix{}, fleet.ErrNullIsland},
		{fleet.Fix{Place: booking.Place{Lat: -0.0009, Lng: 0.0009}}, fleet.ErrNullIsland},
		{fleet.Fix{Place: town, At: c.now().Add(5*time.Second + 1)}, fleet.ErrFixTime},
		{fleet.Fix{Place: town, At: c.now().Add(-5*time.Minute - 1)}, fleet.ErrFixTime},
		{fleet.Fix{Place: town, Accuracy: -1}, fleet.ErrAccuracy},
		{fleet.Fix{Place: town, Accuracy: math.NaN()}, fleet.ErrAccuracy},
		{fleet.Fix{Place: town, Accuracy: math.Inf(1)}, fleet.ErrAccuracy},
	} {
		if _, _, err := m.Move("rita", f.fix); !errors.Is(err, f.want) {
			t.Errorf("%+v: %v, want %v", f.fix, err, f.want)
		}
	}
	for _, s := range []fleet.Status{
		{Rider: "rita", At: 1}, {Rider: "rita", Place: town, At: 1, Age: -1}, {Rider: "rita", Place: town, At: 1, Age: 25 * time.Hour},
		{Rider: "rita", Place: town, At: 1, Accuracy: -1}, {Rider: "rita", Place: town, At: 1, Accuracy: math.NaN()},
	} {
		if _, err := m.Learn(s); !errors.Is(err, fleet.ErrStatus) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if known, _ := m.Count(); known != 0 {
		t.Errorf("%d riders are known", known)
	}
}

// What is old where it is reported is old wherever that is told, also together with what a rider
// says.
func TestAgeIsTold(t *testing.T) {
	one, c := newMap(t, fleet.Options{})
	two, other := newMap(t, fleet.Options{})
	other.pass(-3 * time.Hour)
	s, _, err := one.Move("rita", fleet.Fix{Place: town, At: c.now().Add(-50 * time.Second), Accuracy: 7})
	if err != nil {
		t.Fatal(err)
	}
	learn(t, two, s, true)
	if p, ok := two.Where("rita"); !ok || !p.At.Equal(other.now().Add(-50*time.Second)) {
		t.Errorf("another instance has %+v, %v", p, ok)
	}
	other.pass(11 * time.Second)
	if two.Online("rita") {
		t.Error("a position of 61 seconds ago counts")
	}
	c.pass(30 * time.Minute)
	three, _ := newMap(t, fleet.Options{Now: c.now})
	learn(t, three, say(t, one, "rita", true), true)
	if three.Online("rita") {
		t.Error("a position of half an hour ago counts")
	}
}

// A rider has come nearer once it has been nearer than ever for half a minute, by the farthest that
// it was in that time.
func TestApproach(t *testing.T) {
	b := booking.Booking{ID: "one", Rider: "rita", Pickup: &town, Seq: 7}
	var free bool
	since := noon.Add(5 * time.Second)
	m, c := newMap(t, fleet.Options{Heading: func(booking.RiderID) (board.Heading, bool) {
		return board.Heading{Pickup: town, Seq: b.Seq, Since: since}, !free
	}})
	want := func(metres float64, at time.Time) {
		t.Helper()
		if a := m.Approach(b); math.Abs(a.Metres-metres) > 1 || !a.At.Equal(at) {
			t.Errorf("after %s the rider has come %.0f m nearer by %s, want %.0f by %s", c.now().Sub(noon), a.Metres, a.At, metres, at)
		}
	}
	ride := func(metres ...float64) { // one in ten seconds
		t.Helper()
		for _, d := range metres {
			c.pass(10 * time.Second)
			move(t, m, "rita", north(town, d))
		}
	}
	move(t, m, "rita", north(town, 3060)) // before it had the booking
	ride(3000)
	want(0, time.Time{})         // nothing confirms where it is
	ride(3250, 3000, 2990, 2990) // and in the beginning it errs
	want(0, time.Time{})
	ride(2700, 2600, 2500)
	want(0, time.Time{}) // for twenty seconds
	ride(2960)           // it was an error
	want(0, time.Time{})
	ride(2700, 2600, 2500, 2400)
	at := c.now()
	want(300, at)
	ride(2690, 2660, 2690, 2660, 2700, 2900, 3200, 3500)
	want(300, at) // to and fro, and away
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

	b.Pickup = nil // then it counts that it moves
	ride(1600)
	want(0, c.now())
}
