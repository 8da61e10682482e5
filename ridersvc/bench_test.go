package ridersvc_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/example/pillion/bus/bustest"
)

// BenchmarkCrowd is one race: all riders ask two instances for any booking at once, over HTTP and a
// real NATS.
func BenchmarkCrowd(b *testing.B) {
	for _, bookings := range []int{1, crowd} {
		b.Run(fmt.Sprintf("%d riders for %d bookings", crowd, bookings), func(b *testing.B) {
			x := newTown(b, bustest.Run(b), crowd)
			for b.Loop() {
				b.StopTimer()
				for range bookings {
					x.book(b)
				}
				b.StartTimer()
				answers := x.race(b, "{}", nil)
				b.StopTimer()
				for _, a := range answers {
					if a.status == http.StatusOK {
						x.free(b, a.booking)
					}
				}
				b.StartTimer()
			}
		})
	}
}
