package sim

import (
	"cmp"
	"iter"
	"math"
	"time"
)

// A Crowd is a scene for load tests: all people meet at one place, and want rides at an even rate.
// Riders are at every pickup at once, so that the services do most of the work. A zero field has a
// default.
type Crowd struct {
	Seed    uint64
	Users   int           // 100 by default
	Riders  int           // 50 by default
	Rate    float64       // bookings a second; 10 by default
	Think   time.Duration // the mean pause between two steps; 500 ms by default
	Weights *Weights      // DefaultWeights if nil
}

// Weights are the probabilities of optional steps, from 0 to 1.
type Weights struct {
	Places  float64 // that a booking has a pickup and a drop-off
	Cancel  float64 // that a user cancels a booking
	Release float64 // that a rider releases a booking
	Named   float64 // that a rider names the booking to accept, from the list
	Rate    float64 // that a user, or a rider, rates a ride
}

// DefaultWeights returns the weights of an ordinary day.
func DefaultWeights() Weights {
	return Weights{Places: 0.7, Cancel: 0.05, Release: 0.05, Named: 0.3, Rate: 0.5}
}

// crowdMetres is how far people are from the middle. All pickups are within 500 m, the default of
// --arrive-within, of all riders.
const crowdMetres = 150

// Scene returns the scene of the crowd. Errors: ErrConfig.
func (c Crowd) Scene() (Scene, error) {
	c.Users, c.Riders = cmp.Or(c.Users, 100), cmp.Or(c.Riders, 50)
	c.Rate, c.Think = cmp.Or(c.Rate, 10), cmp.Or(c.Think, 500*time.Millisecond)
	if c.Weights == nil {
		w := DefaultWeights()
		c.Weights = &w
	}
	if err := c.check(); err != nil {
		return Scene{}, err
	}
	s := Scene{
		Demand: c.demand(), Users: c.Users, Think: c.Think, Report: 5 * time.Second, stars: c.Weights.Rate,
	}
	for i := range c.Riders {
		s.Riders = append(s.Riders, Profile{
			Home:  near(random(c.Seed, streamRiders+uint64(i)), place(0, 0), crowdMetres),
			Eager: 0.5, Range: math.Inf(1), Named: c.Weights.Named, Blind: 0.5, Drops: c.Weights.Release,
		})
	}
	return s, nil
}

// demand yields one trip every 1/Rate seconds.
func (c Crowd) demand() iter.Seq[Trip] {
	return func(yield func(Trip) bool) {
		r := random(c.Seed, streamDemand)
		for n := 0; ; n++ {
			t := Trip{At: time.Duration(float64(n) / c.Rate * float64(time.Second))}
			if r.Float64() < c.Weights.Places {
				t.From = new(near(r, place(0, 0), crowdMetres))
				t.To = new(near(r, *t.From, 5000))
			}
			if r.Float64() < c.Weights.Cancel {
				t.Regret = time.Duration((0.5 + r.Float64()) * float64(c.Think))
			}
			if !yield(t) {
				return
			}
		}
	}
}

// maxRate is in bookings a second.
const maxRate = 100_000

func (c Crowd) check() error {
	if c.Users < 0 || c.Riders < 0 || !(c.Rate > 0 && c.Rate <= maxRate) || c.Think < 0 {
		return ErrConfig.Sayingf("Numbers and durations must be positive, and the rate at most %d a second.", maxRate)
	}
	w := *c.Weights
	for _, v := range []float64{w.Places, w.Cancel, w.Release, w.Named, w.Rate} {
		if !(v >= 0 && v <= 1) {
			return ErrConfig.Sayingf("A weight must be from 0 to 1; it is %g.", v)
		}
	}
	return nil
}
