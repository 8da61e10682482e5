package ridersvc_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/fleet"
)

// BenchmarkOffers opens and cancels bookings among 50,000 riders in a city, all of whom report
// here: what that takes with riders told, beside the same without. "told" is how many messages an
// opening and its end are, of which there must not be more than 200.
func BenchmarkOffers(b *testing.B) {
	for _, tells := range []bool{false, true} {
		b.Run(map[bool]string{false: "nobody is told", true: "riders are told"}[tells], func(b *testing.B) {
			const riders, spread = 50_000, 0.3 // degrees
			e := newEnv(b)
			random := rand.New(rand.NewPCG(1, 1))
			somewhere := func() booking.Place {
				return booking.Place{Lat: here.Lat + spread*(random.Float64()-0.5), Lng: here.Lng +
					spread*(random.Float64()-0.5)}
			}
			for i := range riders {
				if _, _, err := e.fleet.Report(booking.RiderID(booking.DeriveID("rider", fmt.Sprint(i))),
					fleet.Fix{Place: somewhere()}); err != nil {
					b.Fatal(err)
				}
			}
			if tells {
				e.tellOffers()
			}
			told, longest := 0, 30*time.Second
			wait := func(what string, id booking.ID) {
				for n := 0; tells && n < 100; n++ {
					var notice feed.Offer
					select {
					case notice = <-e.offers:
					case <-time.After(longest):
						b.Fatalf("%d riders are told that it is %s", n, what)
					}
					if notice.Booking != id || notice.What != what {
						b.Fatalf("told %+v, want that %s is %s", notice, id, what)
					}
					told++
				}
			}
			for b.Loop() {
				id := e.bookAt(somewhere())
				wait("open", id)
				e.do(e.desk.Cancel(b.Context(), command(booking.User, ulla), id, ""))
				wait("gone", id)
			}
			b.ReportMetric(float64(told)/float64(b.N), "told")
		})
	}
}
