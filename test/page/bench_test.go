package page

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/test/proctest"
)

// BenchmarkBoard counts how often a second a browser without a graphics card draws the board of a
// city with 2,000 riders, all of whom move, and 500 open bookings.
func BenchmarkBoard(b *testing.B) {
	const riders, bookings = 2_000, 500
	browser := newBrowser(b)
	data, addr := b.TempDir(), bustest.FreeAddr(b)
	p := proctest.Pillion(b, data, "--demo", "--addr="+addr, "--booking-deadline=1h",
		"--book-limit=0", "--open-bookings=0", "--request-limit=0")
	town := town{TB: b, origin: "http://" + addr}
	user := town.person("user", 1)
	for i := range bookings {
		from := around(i, 3)
		user.do("POST", "/user/book", fmt.Sprintf(`{"pickup":{"lat":%f,"lng":%f},"dropoff":{"lat":%f,"lng":%f}}`,
			from.Lat, from.Lng, from.Lat+0.01, from.Lng))
	}
	move(b, p.At["nats"], access.KeyFile(filepath.Join(data, "services"), access.Ridersvc), riders)

	desk := open(b, browser, town.origin, "/#board", look{1440, "light", false}, chromedp.WithNewBrowserContext())
	desk.press("Continue as john@example.com")
	desk.see(fmt.Sprintf("On the map: %d", riders+bookings))
	var drawn struct{ Frames, Seconds, Longest float64 }
	b.ResetTimer()
	for b.Loop() {
		desk.js(&drawn, `() => new Promise((done) => {
			let first = 0, last = 0, frames = -1, longest = 0;
			requestAnimationFrame(function frame(now) {
				if (first) longest = Math.max(longest, now - last);
				first ||= now;
				last = now;
				frames++;
				if (now - first < 10_000) requestAnimationFrame(frame);
				else done({ frames, seconds: (now - first) / 1000, longest });
			});
		})`)
	}
	b.StopTimer()
	desk.see(fmt.Sprintf("On the map: %d", riders+bookings))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(drawn.Frames/drawn.Seconds, "frames/s")
	b.ReportMetric(drawn.Longest, "longest-ms")
}

// around returns the place of one of many things, which are spread over the city.
func around(i int, turn float64) booking.Place {
	far, angle := 0.025*math.Sqrt(math.Mod(float64(i)*0.618, 1)), float64(i)*turn
	return booking.Place{Lat: 12.9716 + far*math.Sin(angle), Lng: 77.5946 + far*math.Cos(angle)}
}

// move has riders ride in circles until the benchmark ends. It tells where they are as another
// instance of ridersvc does.
func move(b *testing.B, nats, key string, riders int) {
	b.Helper()
	service, err := bus.LoadOrCreateServiceKey(key)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := bus.Connect(bus.Config{URL: nats, Key: service, Inbox: access.Ridersvc, Name: "crowd"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(context.Background()) })
	all, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		b.Fatal(err)
	}
	positions := natsfleet.NewPositions(conn, all)
	tell := func() error {
		now := time.Now()
		for i := range riders {
			// 200 m around a place, at 10 m a second
			at, angle := around(i, 5), float64(i)+float64(now.UnixMilli())/20_000
			at.Lat += 0.0018 * math.Sin(angle)
			at.Lng += 0.0018 * math.Cos(angle)
			err := positions.Announce(b.Context(), fleet.Status{
				Rider: booking.RiderID(booking.DeriveID("rider", fmt.Sprint(i))), Place: at, At: now.UnixMilli(),
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	bustest.Running(b, func(ctx context.Context) error {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			if err := tell(); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
}
