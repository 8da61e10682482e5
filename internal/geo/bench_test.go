package geo_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/internal/geo"
)

// BenchmarkNearest finds the 50 nearest of 100,000 things. Its metric "of-all" is the median time
// divided by the time that measuring and sorting all things takes.
func BenchmarkNearest(b *testing.B) {
	const things = 100_000
	r := rand.New(rand.NewPCG(1, 1))
	middle := s2.LatLngFromDegrees(12.97, 77.59)
	for _, c := range []struct {
		name           string
		spread, radius float64
	}{
		{"a city, 3 km", 0.2, 3000}, {"a city, 50 km", 0.2, 50_000}, {"one street, 3 km", 0.001, 3000}, {"a country, 50 km", 10, 50_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			var x geo.Index[int]
			points := make([]s2.Point, things)
			for i := range points {
				points[i] = s2.PointFromLatLng(somewhere(r, middle, c.spread))
				x.Add(points[i], uint64(i), i)
			}
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				p := s2.PointFromLatLng(somewhere(r, middle, c.spread))
				start := time.Now()
				x.Nearest(p, c.radius, 50, nil)
				took = append(took, time.Since(start))
			}
			var all time.Duration
			const rounds = 20
			for i := range rounds {
				start := time.Now()
				distances := make([]float64, things)
				for j, q := range points {
					distances[j] = points[i].Sub(q.Vector).Norm2()
				}
				slices.Sort(distances)
				all += time.Since(start)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)/2])/float64(all/rounds), "of-all")
		})
	}
}

// BenchmarkMove moves one of 50,000 things to a nearby place.
func BenchmarkMove(b *testing.B) {
	const things = 50_000
	r := rand.New(rand.NewPCG(1, 1))
	middle := s2.LatLngFromDegrees(12.97, 77.59)
	var x geo.Index[int]
	places := make([]s2.LatLng, things)
	for i := range places {
		places[i] = somewhere(r, middle, 0.2)
		x.Add(s2.PointFromLatLng(places[i]), uint64(i), i)
	}
	b.ReportAllocs()
	for b.Loop() {
		i := r.IntN(things)
		if !x.Remove(s2.PointFromLatLng(places[i]), uint64(i)) {
			b.Fatal("Remove did not find the thing")
		}
		places[i] = somewhere(r, places[i], 0.0005)
		x.Add(s2.PointFromLatLng(places[i]), uint64(i), i)
	}
}
