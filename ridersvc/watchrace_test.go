package ridersvc_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/web/webtest"
)

// However bookings come and go, a watcher of the open bookings knows in the end which are, also
// when coming and going between instances.
func TestWatchOpenBookingsOverNATS(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, 1)
		want := make(map[booking.ID]bool)
		var writer errgroup.Group
		marker := booking.ID(booking.NewID()) // opens last
		writer.Go(func() error {
			for i := range 120 {
				id := booking.ID(booking.NewID())
				if i == 119 {
					id = marker
				}
				if _, err := x.desk.Book(t.Context(), x.byUser(), id, booking.Trip{}); err != nil {
					return err
				}
				if i%4 == 3 && id != marker {
					if _, err := x.desk.Cancel(t.Context(), x.byUser(), id, ""); err != nil {
						return err
					}
					continue
				}
				want[id] = true
			}
			return nil
		})
		open, after := make(map[booking.ID]bool), ""
		for turn := 0; !open[marker]; turn++ {
			s := webtest.Watch(t, x.urls[turn%2]+"/open-bookings/events", x.tokens[0], "Last-Event-ID", after)
			if after == "" {
				clear(open)
			}
			for n, ready := 0, false; !open[marker] && (n < 15 || !ready); n++ {
				id, kind, data := s.Next()
				var v struct {
					Booking booking.ID `json:"booking_id"`
				}
				if err := json.Unmarshal([]byte(data), &v); err != nil {
					t.Fatal(err)
				}
				switch kind {
				case "open":
					if open[v.Booking] {
						t.Errorf("told twice that %s is open", v.Booking)
					}
					open[v.Booking] = true
				case "gone":
					delete(open, v.Booking)
				case "reset":
					t.Error("nothing was lost, and yet everything begins again")
					clear(open)
				case "ready":
					ready = true
				default:
					t.Errorf("told %s %s", kind, data)
				}
				if _, err := strconv.ParseUint(id, 10, 64); err == nil {
					after = id
				}
			}
			s.Close()
		}
		if err := writer.Wait(); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(open, want) {
			t.Errorf("%d are open by the stream, want %d", len(open), len(want))
		}
	})
}
