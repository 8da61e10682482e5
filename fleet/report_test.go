package fleet_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
)

// The time in a report orders reports. An implausible report is neither published nor counted until
// others confirm it.
func TestMoveIsBelieved(t *testing.T) {
	type report struct {
		after    time.Duration // since the report before
		place    booking.Place
		ago      time.Duration // age of the fix; 0: it has no time
		accuracy float64
		want     fleet.Verdict
		told     bool // whether watchers get it
	}
	const s = time.Second
	for name, track := range map[string][]report{
		"a ride": {
			{0, town, 0, 0, "", true}, {4 * s, north(town, 60), 0, 5, "", true}, {4 * s, north(town, 120), s, 0, "", true}, {60 * s, north(town, 1000), 0, 0, "", true},
		},
		"late and repeated": {
			{0, town, 10 * s, 0, "", true}, {0, town, 10 * s, 0, fleet.Stale, false}, {0, north(town, 30), 12 * s, 0, fleet.Stale, false},
			{0, north(town, 30), 9 * s, 0, "", true}, {0, north(town, 40), 0, 0, "", true}, {0, north(town, 40), s, 0, fleet.Stale, false},
		},
		"buffered in a tunnel": {
			{0, town, 0, 0, "", true}, {120 * s, north(town, 1000), 80 * s, 0, "", true}, {0, north(town, 2000), 40 * s, 0, "", true}, {0, north(town, 3000), s, 0, "", true},
		},
		"a jump and back": {
			{0, town, 0, 0, "", true}, {s, north(town, 10), 0, 0, "", true}, {s / 2, abroad, 0, 0, fleet.Implausible, false}, {s / 2, north(town, 20), 0, 0, "", true},
			{s, north(town, 3000), 0, 0, fleet.Implausible, false}, {s, north(town, 30), 0, 0, "", true},
		},
		"jumps for 20 s": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {s, abroad, 0, 0, fleet.Implausible, false}, {20 * s, abroad, 0, 0, fleet.Implausible, false}, {s, north(town, 100), 0, 0, "", true},
		},
		"a jump after a silence": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {300 * s, abroad, 0, 0, fleet.Implausible, false}, {4 * s, abroad, 0, 0, fleet.Implausible, false}, {4 * s, north(town, 1000), 0, 0, "", true},
		},
		"far away after a silence": {
			{0, town, 0, 0, "", true}, {s, town, 0, 0, "", true}, {300 * s, north(town, 5000), 0, 0, "", false}, {4 * s, north(town, 5040), 0, 0, "", true},
		},
		"a wrong first report": {
			{0, abroad, 0, 0, "", true}, {4 * s, town, 0, 0, "", false}, {4 * s, north(town, 30), 0, 0, "", true},
		},
		"a wrong second report": {
			{0, town, 0, 0, "", true}, {4 * s, abroad, 0, 0, "", false}, {4 * s, north(town, 30), 0, 0, "", true}, {4 * s, abroad, 0, 0, fleet.Implausible, false},
		},
		"a wrong place that was confirmed": {
			{0, abroad, 0, 0, "", true}, {s, abroad, 0, 0, "", true}, {s, town, 0, 0, fleet.Implausible, false}, {15 * s, north(town, 100), 0, 0, fleet.Implausible, false},
			{14 * s, north(town, 100), 0, 0, fleet.Implausible, false}, {s, north(town, 200), 0, 0, "", true}, {s, north(town, 210), 0, 0, "", true},
		},
		"inaccurate": {
			{0, town, 0, 501, fleet.Inaccurate, false}, {s, town, 0, 500, "", true}, {s, north(town, 330), 0, 200, "", true}, {s, north(town, 1000), 0, 500, fleet.Implausible, false},
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
				_, verdict, err := m.Report("rita", fix)
				if err != nil || verdict != r.want {
					t.Fatalf("report %d: %q, %v, want %q", i, verdict, err, r.want)
				}
				if verdict == fleet.Believed {
					last = r.place
				}
				if p, ok := m.Last("rita"); ok && p.Place != last {
					t.Errorf("after report %d the rider is at %v", i, p.Place)
				}
				if !r.told {
					nothing(t, told)
				} else if p := next(t, told); p.Place != r.place || !p.At.Equal(was) {
					t.Errorf("report %d: watchers get %+v", i, p)
				}
			}
		})
	}
}

func TestInvalidFixes(t *testing.T) {
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
		if _, _, err := m.Report("rita", f.fix); !errors.Is(err, f.want) {
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
