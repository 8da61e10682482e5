package sim_test

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/sim"
)

// TestDemandDependsOnTheSeed makes the script of a day's demand of one seed twice, with other
// riders and users, and of another seed.
func TestDemandDependsOnTheSeed(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	one := sim.City{Seed: 7}.Scene()
	if again := one.Digest(day); again != one.Digest(day) {
		t.Error("one scene wants other trips the second time")
	}
	if other := (sim.City{Seed: 7, Riders: 3, Users: 9}).Scene(); other.Digest(day) != one.Digest(day) {
		t.Error("riders change what users want")
	}
	if other := (sim.City{Seed: 8}).Scene(); other.Digest(day) == one.Digest(day) {
		t.Error("two seeds want the same trips")
	}
	if fewer := (sim.City{Seed: 7, Riders: 3}).Scene(); fewer.Riders[2] != one.Riders[2] {
		t.Error("a rider changes with the number of riders")
	}
}

// TestDemandIsAPoissonProcess counts the trips of a hundred days, by hour and zone.
func TestDemandIsAPoissonProcess(t *testing.T) {
	t.Parallel()
	const days, rides = 100, 50.0
	s := sim.City{Seed: 3, Rides: rides, Begin: time.Hour}.Scene()
	var hours [24]int
	var zones [sim.Zones]int
	total, last, squares := 0, time.Duration(0), 0.0
	for trip := range s.Demand {
		if trip.At >= days*24*time.Hour {
			break
		}
		if trip.At < last || trip.From.Distance(*trip.To) < 400 || trip.Patience <= 0 {
			t.Fatalf("a trip at %v after %v: %+v", trip.At, last, trip)
		}
		gap := (trip.At - last).Hours() * rides
		squares += gap * gap
		last = trip.At
		total++
		hours[int((s.Begin+trip.At)/time.Hour)%24]++
		zones[trip.Zone]++
	}
	if mean := float64(total) / days / 24; math.Abs(mean-rides) > 0.05*rides {
		t.Errorf("%g trips an hour, want %g", mean, rides)
	}
	// Of a regular process it would be 1, and of a Poisson process whose rate changes more than 2.
	if squares /= float64(total); squares < 2 {
		t.Errorf("the mean square of the gaps is %g, want that of a Poisson process", squares)
	}
	if hours[8] < 3*hours[3] || hours[18] < 3*hours[3] {
		t.Errorf("no rush in the morning and evening: %v", hours)
	}
	if slices.Min(zones[:]) == 0 || slices.Max(zones[:]) < 2*slices.Min(zones[:]) {
		t.Errorf("all zones are alike: %v", zones)
	}
}

// TestCityRides plays an hour of the city on services that say yes to everything. Time is virtual.
func TestCityRides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTaker()
		at := []string{"http://pillion.example"}
		city := sim.City{Seed: 5, Users: 10, Riders: 12, Rides: 30}
		began := time.Now()
		r := run(t, sim.Config{
			Auth: at, User: at, Rider: at, Scene: city.Scene(), Speed: 60, Duration: 2 * time.Hour, Seed: 1,
			HTTP: &http.Client{Transport: f},
		})
		if took := time.Since(began); took < 2*time.Minute || took > 5*time.Minute || !r.Good() {
			t.Errorf("two hours at sixty times our speed took %v; %+v", took, r.Violations)
		}
		g := r.Figures
		if g.Requested < 40 || g.Matched == 0 || g.Completed == 0 || g.MatchRate <= 0 || g.MatchRate > 1 ||
			g.Completed > g.Matched || g.Matched > g.Requested {
			t.Errorf("%+v", g.Cell)
		}
		if g.Wait.P50 <= g.Accept.P50 || g.Wait.P95 < g.Wait.P50 || g.Pickup.P95 <= 0 {
			t.Errorf("accepted after %+v, begun after %+v, %+v away", g.Accept, g.Wait, g.Pickup)
		}
		if sum := g.Working.Idle + g.Working.OnTheWay + g.Working.Passenger; math.Abs(sum-1) > 1e-9 ||
			g.Working.Passenger == 0 || g.Working.Hours < 4 || g.Working.Hours > 12*2.6 {
			t.Errorf("riders: %+v", g.Working)
		}
		n := r.Events[booking.Completed]
		if g.Earned.Total != int64(n)*fare || g.Earned.Gini <= 0 || g.Earned.Gini >= 1 {
			t.Errorf("%d rides earn %+v", n, g.Earned)
		}
		sum := 0
		for _, c := range g.Cells {
			sum += c.Requested
		}
		if sum != g.Requested || len(g.Hours) < 2 || *g.Hours[0].Hour != 8 || len(g.Zones) < 4 {
			t.Errorf("%d rides by hour and zone, want %d; %d hours, %d zones", sum, g.Requested, len(g.Hours), len(g.Zones))
		}
		// A bike that leaps would not be believed.
		if longest := f.leap(); longest > 100 {
			t.Errorf("a rider leaps %g m", longest)
		}
		var text strings.Builder
		if err := r.Summarize(&text); err != nil || !strings.Contains(text.String(), "found a raider") {
			t.Errorf("%v: %s", err, &text)
		}
	})
}

// TestForgets plays a run without an end: it keeps nothing to report.
func TestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, newTaker().fake, sim.Crowd{})
		c.Forget = true
		r := run(t, c)
		if r.Figures != nil || len(r.Acknowledged()) != 0 || r.Events[booking.Requested] == 0 {
			t.Errorf("%+v, %d acknowledged", r.Figures, len(r.Acknowledged()))
		}
	})
}
