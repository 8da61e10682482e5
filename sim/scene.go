package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"github.com/example/pillion/booking"
)

// A Scene is what a [Run] plays: who wants rides, where and when, and who rides. [City] and [Crowd]
// make scenes.
type Scene struct {
	// Demand yields the trips that people want, in the order of their times. It may have no end,
	// and yields the same trips each time.
	Demand iter.Seq[Trip]
	Riders []Profile
	Users  int // who want the trips, one after the other

	Begin time.Duration // the time of the day at which the scene begins
	// Think is the mean pause of a person between two steps, which varies by a half.
	Think time.Duration
	// Report is how often riders who wait report their position.
	Report time.Duration

	stars float64 // the probability that a user, or a rider, rates a ride
}

// A Trip is a ride that somebody wants. All durations are by the scene's clock.
type Trip struct {
	At       time.Duration // since the beginning of the scene
	From, To *booking.Place
	Zone     int // where it begins
	// Patience is how long the user waits for a rider to accept, and Wait how long for that rider
	// to come; 0: as long as it takes.
	Patience, Wait time.Duration
	// Regret is when the user cancels if the ride has not begun by then; 0: never.
	Regret time.Duration
}

// A Profile is what is particular to one rider.
type Profile struct {
	Home  booking.Place
	Speed float64 // in metres a second; 0: the rider is everywhere at once
	Shift Shift
	// Eager is the probability that the rider accepts a booking next door. It falls with the
	// distance, to a third at Range metres.
	Eager, Range float64
	Named        float64       // probability of naming a booking, in place of taking any
	Blind        float64       // probability of looking at all open bookings, not at those near
	Drops        float64       // probability of releasing a booking after the acceptance
	Patience     time.Duration // until an idle rider moves to another place; 0: for ever
}

// A Shift is when a rider works, every day. The zero Shift is all the time.
type Shift struct {
	Begin  time.Duration // time of the day
	Length time.Duration // at most a day
}

// next returns the shift that is under way at a time since midnight of the first day, or the next
// one.
func (s Shift) next(now time.Duration) (begin, end time.Duration) {
	if s.Length == 0 {
		return now, math.MaxInt64
	}
	const day = 24 * time.Hour
	for begin = s.Begin - day; begin+s.Length <= now; begin += day {
	}
	return begin, begin + s.Length
}

// Digest returns a digest of the trips that are wanted until a time since the beginning. Two scenes
// with the same digest ask for the same rides.
func (s Scene) Digest(until time.Duration) string {
	h := sha256.New()
	for t := range s.Demand {
		if t.At >= until {
			break
		}
		fmt.Fprintln(h, t.At, t.From, t.To, t.Zone, t.Patience, t.Wait, t.Regret)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The city is Bengaluru, as in the examples.
const (
	cityLat, cityLng = 12.9716, 77.5946
	metresPerDegree  = 111_195
)

// place returns the point so many metres east and north of the centre.
func place(east, north float64) booking.Place {
	return booking.Place{
		Lat: cityLat + north/metresPerDegree,
		Lng: cityLng + east/(metresPerDegree*math.Cos(cityLat*math.Pi/180)),
	}
}

// position is the inverse of place.
func position(p booking.Place) (east, north float64) {
	return (p.Lng - cityLng) * metresPerDegree * math.Cos(cityLat*math.Pi/180), (p.Lat - cityLat) * metresPerDegree
}

// near returns a random point in a square around p, at most so many metres away in each direction.
func near(r *rand.Rand, p booking.Place, metres float64) booking.Place {
	east, north := position(p)
	return place(east+(2*r.Float64()-1)*metres, north+(2*r.Float64()-1)*metres)
}

// Streams of random numbers of one seed.
const (
	streamZones  uint64 = 1 << 40
	streamDemand uint64 = 2 << 40
	streamRiders uint64 = 3 << 40 // and the number of the rider
)

// random returns a stream of random numbers.
func random(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // no secret
}
