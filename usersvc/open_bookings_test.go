package usersvc_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/webtest"
)

// A user has a number of open bookings at most. Whatever closes one makes room. A retry is no new
// booking, and other users are not affected.
func TestOpenBookings(t *testing.T) {
	const most = 3
	e := newEnvWith(t, func(c *usersvc.Config) { c.OpenBookings = most })
	const full = "You have as many open bookings as you may: 3. Cancel one, or wait until one is accepted or expires, before you book another."
	keyed := func(key string) string {
		w := e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", key)
		return fmt.Sprint(webtest.Object(t, w)["booking_id"])
	}
	first := keyed("one")
	ids := []booking.ID{e.book(ulla), e.book(ulla)}
	for _, to := range []booking.State{booking.StateCancelled, booking.StateAccepted} {
		webtest.Refused(t, e.call("POST", "/book", e.user(ulla), "{}"), http.StatusConflict, full)
		webtest.Refused(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "new"),
			http.StatusConflict, full)
		if again := keyed("one"); again != first {
			t.Errorf("a retry got %s, want %s", again, first)
		}
		e.book(uwe)
		e.bring(ids[0], to)
		ids = append(ids[1:], e.book(ulla))
	}
	e.ahead.Add(int64(2 * deadline)) // all are overdue, and nothing has ended them yet
	for range most {
		e.book(ulla)
	}
	webtest.Refused(t, e.call("POST", "/book", e.user(ulla), "{}"), http.StatusConflict, full)
	if w := e.call("POST", "/book", e.user(rita[:25]+"2"), `{"pickup":{"lat":1,"lng":1}}`); w.Code != http.StatusBadRequest {
		t.Errorf("a bad booking: %d", w.Code)
	}
}

// However many bookings a user makes at once, one instance lets them have as many as are allowed.
func TestOpenBookingsInARace(t *testing.T) {
	const most, tries = 5, 60
	e := newEnvWith(t, func(c *usersvc.Config) { c.OpenBookings = most })
	var made atomic.Int32
	var all sync.WaitGroup
	for range tries {
		all.Go(func() {
			switch w := e.call("POST", "/book", e.user(ulla), "{}"); w.Code {
			case http.StatusOK:
				made.Add(1)
			case http.StatusConflict:
			default:
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n != most {
		t.Errorf("%d open bookings, want %d", n, most)
	}
}

// Bookings that fail take no place.
func TestFailedBookingsAreNotOpen(t *testing.T) {
	e := newEnvWith(t, func(c *usersvc.Config) { c.OpenBookings = 1 })
	far := `{"pickup":{"lat":1,"lng":1},"dropoff":{"lat":80,"lng":1}}`
	for range 3 {
		if w := e.call("POST", "/book", e.user(ulla), far); w.Code != http.StatusBadRequest {
			t.Errorf("a trip that is too long: %d %s", w.Code, w.Body)
		}
	}
	e.book(ulla)
}

// A user asks who is near a number of times a minute. Others are not affected.
func TestAvailabilityIsLimited(t *testing.T) {
	e := newEnvWith(t, func(c *usersvc.Config) { c.AvailabilityRate = web.Rate{PerMinute: 2} })
	for i, want := range []int{200, 200, 429, 429} {
		if w := e.call("GET", "/availability?lat=1&lng=1", e.user(ulla), ""); w.Code != want {
			t.Errorf("question %d: %d, want %d", i, w.Code, want)
		}
	}
	if w := e.call("GET", "/availability?lat=1&lng=1", e.user(uwe), ""); w.Code != http.StatusOK {
		t.Errorf("another user: %d", w.Code)
	}
}
