package geo_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/golang/geo/r3"
	"github.com/golang/geo/s2"

	"github.com/example/pillion/internal/geo"
	"github.com/example/pillion/internal/wait"
)

// A thing has a number and a place.
type thing struct {
	n  uint64
	at s2.LatLng
}

// A world is the simplest implementation of an index: it measures the distance of every thing, by
// another formula.
type world map[uint64]thing

func (w world) nearest(p s2.LatLng, radius float64, want func(*thing) bool) []geo.Found[*thing] {
	var found []geo.Found[*thing]
	for _, t := range w {
		if d := geo.Metres(p.Distance(t.at)); d <= radius && want(&t) {
			found = append(found, geo.Found[*thing]{Thing: &t, Metres: d})
		}
	}
	slices.SortFunc(found, func(a, b geo.Found[*thing]) int {
		return cmp.Or(cmp.Compare(a.Metres, b.Metres), cmp.Compare(a.Thing.n, b.Thing.n))
	})
	return found
}

// hairsbreadth is how far the two formulas may differ, in metres. Beyond a few thousand kilometres
// they differ by more.
const hairsbreadth = 1e-6

// regions are where things and queries are. The spread is in degrees from the middle.
var regions = []struct {
	name   string
	middle s2.LatLng
	spread float64
}{
	{"a city", s2.LatLngFromDegrees(12.97, 77.59), 0.2},
	{"the antimeridian", s2.LatLngFromDegrees(-17, 180), 0.5},
	{"the north pole", s2.LatLngFromDegrees(90, 0), 0.4},
	{"the south pole", s2.LatLngFromDegrees(-90, 0), 0.4},
	{"a corner of s2's cube", s2.LatLngFromDegrees(35.2643897, 45), 0.3},
	{"the world", s2.LatLngFromDegrees(0, 0), 180},
	{"one street", s2.LatLngFromDegrees(0, 0), 0.001},
}

// somewhere returns a random place of a region. At a pole it uses all longitudes.
func somewhere(r *rand.Rand, middle s2.LatLng, spread float64) s2.LatLng {
	lat := middle.Lat.Degrees() + (2*r.Float64()-1)*spread
	lng := middle.Lng.Degrees() + (2*r.Float64()-1)*spread
	if math.Abs(middle.Lat.Degrees()) == 90 {
		lng = 360 * r.Float64()
	}
	return s2.LatLngFromDegrees(max(-90, min(90, lat)), lng).Normalized()
}

func all(*thing) bool { return true }

// check compares the answers of the index and the world.
func check(
	t *testing.T,
	x *geo.Index[*thing],
	w world,
	p s2.LatLng,
	radius float64,
	limit int,
	want func(*thing) bool,
) {
	t.Helper()
	got := x.Nearest(s2.PointFromLatLng(p), radius, limit, want)
	all := w.nearest(p, radius+hairsbreadth, want)
	sure := len(w.nearest(p, radius-hairsbreadth, want)) // inside whatever the rounding
	if len(got) > limit || len(got) > len(all) || len(got) < min(limit, sure) {
		t.Fatalf(
			"around %v within %g m, at most %d: %d found, want %d to %d",
			p,
			radius,
			limit,
			len(got),
			sure,
			len(all),
		)
	}
	seen := make(map[uint64]bool)
	for i, f := range got {
		real, ok := w[f.Thing.n]
		d := geo.Metres(p.Distance(real.at))
		switch {
		case !ok || !want(f.Thing) || seen[f.Thing.n]:
			t.Fatalf("around %v: found %d, which is absent, not wanted, or found twice", p, f.Thing.n)
		case math.Abs(f.Metres-d) > hairsbreadth:
			t.Fatalf("around %v: thing %d: distance %.9f m, want %.9f m", p, f.Thing.n, f.Metres, d)
		case math.Abs(f.Metres-all[i].Metres) > hairsbreadth:
			t.Fatalf(
				"around %v within %g m, at most %d: number %d is %.9f m away, want %.9f m",
				p,
				radius,
				limit,
				i,
				f.Metres,
				all[i].Metres,
			)
		case i > 0 && (f.Metres < got[i-1].Metres || f.Thing.at == got[i-1].Thing.at && f.Thing.n < got[i-1].Thing.n):
			t.Fatalf("around %v: number %d is out of order", p, i)
		}
		seen[f.Thing.n] = true
	}
}

// While things are added, removed and moved, the index finds what measuring everything finds.
func TestNearestIsNearest(t *testing.T) {
	most := uint64(1000)
	if wait.Long() {
		most = 3000
	}
	for seed, region := range regions {
		t.Run(region.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			var x geo.Index[*thing]
			w := make(world)
			add := func(n uint64) {
				at := somewhere(r, region.middle, region.spread)
				if len(w) > 0 && r.IntN(20) == 0 { // exactly where another one is
					for _, other := range w {
						at = other.at
						break
					}
				}
				w[n] = thing{n, at}
				x.Add(s2.PointFromLatLng(at), n, &thing{n, at})
			}
			remove := func(n uint64) {
				if !x.Remove(s2.PointFromLatLng(w[n].at), n) {
					t.Fatalf("thing %d cannot be removed", n)
				}
				delete(w, n)
			}
			radii := []float64{0.5, 30, 900, 3000, 20_000, 50_000}
			for step := range 3 * most {
				n := r.Uint64N(most)
				if step > 2*most {
					n /= 8 // the others stay
				}
				if _, there := w[n]; there {
					remove(n)
					if r.IntN(3) > 0 {
						add(n)
					}
				} else if r.IntN(3) > 0 {
					add(n)
				}
				if step%60 > 0 {
					continue
				}
				p := somewhere(r, region.middle, region.spread*1.2)
				want, limit := all, 1+r.IntN(40)
				if r.IntN(3) == 0 {
					want = func(t *thing) bool { return t.n%5 == 0 }
				}
				if r.IntN(10) == 0 {
					limit = int(2 * most)
				}
				check(t, &x, w, p, radii[r.IntN(len(radii))], limit, want)
			}
			if x.Len() != len(w) {
				t.Errorf("%d things, want %d", x.Len(), len(w))
			}
			for n := range w {
				remove(n)
			}
			if got := x.Nearest(s2.PointFromLatLng(region.middle), 1e9, 10, nil); len(got) != 0 || x.Len() != 0 {
				t.Errorf("after all are removed: %d found, length %d", len(got), x.Len())
			}
		})
	}
}

func TestManyAtOnePlace(t *testing.T) {
	var x geo.Index[int]
	here := s2.PointFromLatLng(s2.LatLngFromDegrees(1, 2))
	const many = 5000
	for i := range many {
		x.Add(here, uint64(many-i), i)
	}
	got := x.Nearest(here, 10, 3, nil)
	if len(got) != 3 || got[0].Thing != many-1 || got[2].Thing != many-3 || got[0].Metres != 0 {
		t.Errorf("Nearest = %v, want the three with the least n", got)
	}
	for i := range many {
		if !x.Remove(here, uint64(i+1)) || x.Remove(here, uint64(i+1)) {
			t.Fatalf("Remove of number %d did not succeed exactly once", i)
		}
	}
}

func TestNearestOfNothing(t *testing.T) {
	var x geo.Index[int]
	here := s2.PointFromLatLng(s2.LatLngFromDegrees(1, 2))
	if got := x.Nearest(here, 1000, 1, nil); got != nil {
		t.Errorf("an empty index finds %v", got)
	}
	if x.Remove(here, 1) {
		t.Error("Remove on an empty index reports success")
	}
	x.Add(here, 1, 1)
	nan := math.NaN()
	for name, got := range map[string][]geo.Found[int]{
		"no limit":        x.Nearest(here, 1000, 0, nil),
		"no radius":       x.Nearest(here, 0, 1, nil),
		"less than none":  x.Nearest(here, -1, 1, nil),
		"radius NaN":      x.Nearest(here, nan, 1, nil),
		"a place of NaN":  x.Nearest(s2.Point{Vector: r3.Vector{X: nan, Y: 0, Z: 0}}, 1000, 1, nil),
		"not on a sphere": x.Nearest(s2.Point{}, 1000, 1, nil),
	} {
		if got != nil {
			t.Errorf("%s finds %v", name, got)
		}
	}
	for _, radius := range []float64{1, math.Inf(1), geo.EarthRadius * 4} {
		if got := x.Nearest(here, radius, 1, nil); len(got) != 1 {
			t.Errorf("within %g m: %v", radius, got)
		}
	}
}
