package sim

import (
	"cmp"
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"github.com/example/pillion/booking"
)

// The plan of the city, which all cities share: streets from west to east and from south to north,
// so many metres apart, and square zones.
const (
	Block       = 200.0 // metres between two streets
	Width       = 6000.0
	ZonesAcross = 4 // from west to east, and from south to north
	Zones       = ZonesAcross * ZonesAcross
)

// A City is a town with streets and zones, in which people want rides at the times of a day. The
// trips of a city depend on Seed and Rides alone, however many riders there are. A zero field has a
// default.
type City struct {
	Seed   uint64
	Rides  float64 // mean number of trips an hour, over a whole day; 60 by default
	Users  int     // 60 by default
	Riders int     // 40 by default
	// Begin is the time of the day at which the scene begins; 8 in the morning by default.
	Begin time.Duration
}

// A kind is what people do in a zone, for the most part.
type kind int

const (
	home kind = iota
	work
	leisure
)

// departures and arrivals are how many people leave, and go to, a zone of each kind in each hour of
// the day, in proportion.
var (
	departures = [...][24]float64{
		home:    {1, .5, .5, .5, 1, 3, 6, 10, 12, 9, 6, 5, 5, 5, 5, 5, 6, 6, 7, 7, 6, 4, 3, 2},
		work:    {.5, .2, .2, .2, .2, .5, 1, 2, 2, 3, 4, 5, 7, 6, 5, 5, 8, 12, 13, 9, 5, 3, 2, 1},
		leisure: {6, 5, 3, 1, .5, .5, .5, 1, 1, 2, 2, 3, 4, 5, 4, 4, 4, 5, 6, 7, 8, 10, 11, 9},
	}
	arrivals = [...][24]float64{
		home:    {9, 8, 6, 4, 3, 2, 2, 2, 2, 2, 3, 4, 5, 5, 5, 6, 8, 10, 12, 12, 10, 10, 10, 10},
		work:    {1, .5, .5, .5, 1, 3, 7, 12, 13, 10, 6, 5, 5, 6, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1},
		leisure: {3, 2, 1, 1, .5, .5, 1, 1, 2, 3, 4, 5, 7, 6, 5, 5, 6, 8, 9, 10, 10, 8, 5, 4},
	}
)

// A zone is one part of a city.
type zone struct {
	kind
	size float64 // how many people there are, in proportion
}

// Scene returns the scene of the city.
func (c City) Scene() Scene {
	c.Rides, c.Users, c.Riders = cmp.Or(c.Rides, 60), cmp.Or(c.Users, 60), cmp.Or(c.Riders, 40)
	c.Begin = cmp.Or(c.Begin, 8*time.Hour)
	zones := c.zones()
	s := Scene{
		Demand: c.demand(zones), Users: c.Users, Begin: c.Begin,
		Think: 15 * time.Second, Report: 20 * time.Second, stars: 0.6,
	}
	for i := range c.Riders {
		s.Riders = append(s.Riders, c.profile(zones, random(c.Seed, streamRiders+uint64(i))))
	}
	return s
}

// zones returns the zones of the city, row by row from the south west: offices in the middle, and
// flats around them.
func (c City) zones() []zone {
	r := random(c.Seed, streamZones)
	zones := make([]zone, Zones)
	for i := range zones {
		x, y := i%ZonesAcross, i/ZonesAcross
		central := x > 0 && x < ZonesAcross-1 && y > 0 && y < ZonesAcross-1
		switch chance := r.Float64(); {
		case chance < 0.2:
			zones[i].kind = leisure
		case central != (chance < 0.3):
			zones[i].kind = work
		}
		zones[i].size = 0.5 + r.Float64()
	}
	return zones
}

// demand yields the trips: a Poisson process whose rate changes with the hour and differs between
// zones.
func (c City) demand(zones []zone) iter.Seq[Trip] {
	// all departures of a day, so that the mean is c.Rides an hour
	total := 0.0
	for hour := range 24 {
		total += sum(weights(zones, departures[:], hour))
	}
	return func(yield func(Trip) bool) {
		r := random(c.Seed, streamDemand)
		for now := time.Duration(0); ; {
			hour := int((c.Begin + now) / time.Hour % 24)
			from := weights(zones, departures[:], hour)
			rate := sum(from) / total * 24 * c.Rides // trips in this hour
			next := now + time.Duration(r.ExpFloat64()/rate*float64(time.Hour))
			// The process has no memory, so it may begin again with the next hour's rate.
			if end := (c.Begin + now).Truncate(time.Hour) + time.Hour - c.Begin; next >= end {
				now = end
				continue
			}
			now = next
			origin := draw(r, from)
			if !yield(trip(r, now, origin, draw(r, weights(zones, arrivals[:], hour)))) {
				return
			}
		}
	}
}

// trip returns a trip from one zone to another, of half a kilometre at least.
func trip(r *rand.Rand, at time.Duration, origin, destination int) Trip {
	minutes := func(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }
	from, to := corner(r, origin), corner(r, destination)
	for from.Distance(to) < 500 {
		to = corner(r, r.IntN(Zones))
	}
	t := Trip{
		At: at, From: &from, To: &to, Zone: origin,
		Patience: minutes(1.5 + 4*r.ExpFloat64()), Wait: minutes(8 + 6*r.ExpFloat64()),
	}
	if r.Float64() < 0.04 {
		t.Regret = minutes(0.2 + 4*r.Float64())
	}
	return t
}

// weights returns how much goes on in each zone in an hour, by a table.
func weights(zones []zone, table [][24]float64, hour int) []float64 {
	w := make([]float64, len(zones))
	for i, z := range zones {
		w[i] = z.size * table[z.kind][hour]
	}
	return w
}

func sum(of []float64) (total float64) {
	for _, w := range of {
		total += w
	}
	return total
}

// draw returns an index with a probability in proportion to its weight.
func draw(r *rand.Rand, weights []float64) int {
	left := r.Float64() * sum(weights)
	for i, w := range weights {
		if left -= w; left < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// corner returns a random crossing of two streets in a zone.
func corner(r *rand.Rand, zone int) booking.Place {
	const side = Width / ZonesAcross
	along := func(n int) float64 { return math.Round((float64(n)+r.Float64())*side/Block)*Block - Width/2 }
	return place(along(zone%ZonesAcross), along(zone/ZonesAcross))
}

// profile returns a rider who lives in one of the zones.
func (c City) profile(zones []zone, r *rand.Rand) Profile {
	flats := make([]float64, len(zones))
	for i, z := range zones {
		flats[i] = z.size
	}
	hours := func(n float64) time.Duration { return time.Duration(n * float64(time.Hour)) }
	// Most work in the morning or in the evening, and some at night.
	begins := []float64{5, 11, 15, 21}[draw(r, []float64{5, 2, 3, 1})]
	return Profile{
		Home: corner(r, draw(r, flats)), Speed: 5 + 4*r.Float64(),
		Shift: Shift{Begin: hours(begins + 3*r.Float64()), Length: hours(7 + 3*r.Float64())},
		Eager: 0.6 + 0.4*r.Float64(), Range: 1000 + 2500*r.Float64(), Named: 0.3 + 0.7*r.Float64(),
		Drops: 0.04, Patience: time.Duration(10+20*r.Float64()) * time.Minute,
	}
}

// street returns the way along the streets from one point to another: its corners, the last one
// being the destination.
func street(from, to booking.Place) []booking.Place {
	east, _ := position(to)
	_, north := position(from)
	return []booking.Place{place(east, north), to}
}
