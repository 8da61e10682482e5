package ridersvc_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

// streaming is an env that serves HTTP.
func streaming(t *testing.T) (*env, string) {
	t.Helper()
	e := newEnv(t)
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	return e, server.URL
}

func events(url string, id booking.ID) string { return url + "/bookings/" + string(id) + "/events" }

// done returns a function that fails the test where a command did not succeed.
func done(t *testing.T) func(booking.Booking, error) {
	return func(_ booking.Booking, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatch(t *testing.T) {
	e, url := streaming(t)
	ctx, do := t.Context(), done(t)
	id := e.book()
	do(e.desk.Accept(ctx, command(booking.Rider, rolf), id))
	other := webtest.Watch(t, events(url, id), e.rider(rolf))
	other.Want("accepted")
	do(e.desk.Release(ctx, command(booking.Rider, rolf), id, "puncture"))
	other.Want("released", `"reason":"puncture"`)
	other.Ended("booking_over") // for this rider
	do(e.desk.Accept(ctx, command(booking.Rider, rita), id))
	s := webtest.Watch(t, events(url, id), e.rider(rita))
	first, data := s.Want("accepted", string(id), `"state":"accepted"`)
	if strings.Contains(data, ulla) || strings.Contains(data, "example.com") {
		t.Errorf("%s", data)
	}
	do(e.desk.Arrive(ctx, command(booking.Rider, rita), id))
	s.Want("arrived")
	do(e.desk.Start(ctx, command(booking.Rider, rita), id))
	s.Want("started")
	do(e.desk.Complete(ctx, command(booking.Rider, rita), id))
	s.Want("completed", `"state":"completed"`)
	do(e.desk.Rate(ctx, command(booking.User, ulla), id, 1)) // which is not the rider's to see
	do(e.desk.Rate(ctx, command(booking.Rider, rita), id, 4))
	s.Want("rated", `"stars":4`)
	s.Ended("booking_over")
	again := webtest.Watch(t, events(url, id), e.rider(rita), "Last-Event-ID", first)
	for _, kind := range []string{"arrived", "started", "completed", "rated"} {
		again.Want(kind)
	}
	again.Ended("booking_over")

	for _, c := range []struct {
		bearer, id string
		status     int
	}{{e.rider(rolf), string(id), 404}, {e.rider(rita), wrong, 404}, {e.rider(rita), "no-id", 400},
		{"", string(id), 401}} {
		if w := e.call("GET", "/bookings/"+c.id+"/events", c.bearer, ""); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.id, w.Code, w.Body, c.status)
		}
	}
}

func TestWatchOpenBookings(t *testing.T) {
	e, url := streaming(t)
	ctx, do := t.Context(), done(t)
	one, two := e.book(), e.book()
	s := webtest.Watch(t, url+"/open-bookings/events", e.rider(rita))
	if id, data := s.Want("open", string(one), `"opened_at":"`, `"deadline":"`); id != "" ||
		strings.Contains(data, ulla) {
		t.Errorf("%s %s", id, data)
	}
	s.Want("open", string(two))
	ready, _ := s.Want("ready")
	do(e.desk.Accept(ctx, command(booking.Rider, rolf), one))
	accepted, _ := s.Want("gone", string(one), `"why":"accepted"`)
	do(e.desk.Cancel(ctx, command(booking.User, ulla), two, ""))
	s.Want("gone", string(two), `"why":"cancelled"`)
	three := e.book()
	s.Want("open", string(three))
	do(e.desk.Release(ctx, command(booking.Rider, rolf), one, ""))
	last, _ := s.Want("open", string(one))

	// Who comes back goes on, and who cannot is told to begin again.
	again := webtest.Watch(t, url+"/open-bookings/events", e.rider(rita), "Last-Event-ID", accepted)
	again.Want("gone", string(two))
	again.Want("open", string(three))
	if id, _ := again.Want("open", string(one)); id != last {
		t.Errorf("the same event has the ids %s and %s", id, last)
	}
	again.Want("ready")
	before := webtest.Watch(t, url+"/open-bookings/events?after="+ready, e.rider(rita))
	before.Want("gone", string(two)) // and not that one was gone in between
	before.Want("open", string(three))
	before.Want("open", string(one))
	before.Want("ready")
	ahead := webtest.Watch(t, url+"/open-bookings/events", e.rider(rita), "Last-Event-ID", "9999")
	ahead.Want("reset")
	ahead.Want("open", string(three))
	ahead.Want("open", string(one))
	ahead.Want("ready")
}

// A booking is gone when its deadline has passed, whether an event says so or not, and only once.
func TestWatchOpenBookingsBeyondTheirDeadline(t *testing.T) {
	e := newEnv(t)
	overdue := e.book()
	e.ahead.Store(int64(deadline - 1500*time.Millisecond)) // it has that long left
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	s := webtest.Watch(t, server.URL+"/open-bookings/events", e.auth.Token("raider", rita, "rita@example.com"))
	s.Want("open", string(overdue))
	s.Want("ready")
	if id, data := s.Want("gone", string(overdue), `"why":"expired"`); id == "" {
		t.Errorf("%s", data)
	}
	done(t)(e.desk.Expire(t.Context(), command(booking.Service, cron), overdue))
	next := e.book()
	s.Want("open", string(next))
	late := webtest.Watch(t, server.URL+"/open-bookings/events", e.rider(rita))
	late.Want("open", string(next))
	late.Want("ready")
}

func TestWatchOpenBookingsRefuses(t *testing.T) {
	e := newEnv(t)
	if w := e.call("GET", "/open-bookings/events", e.rider(rita), "", "Last-Event-ID", "x"); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := e.call("GET", "/open-bookings/events", "", ""); w.Code != 401 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	e.unready = fmt.Errorf("not yet")
	later(t, e.call("GET", "/open-bookings/events", e.rider(rita), ""), bookings.ErrCatchingUp.Message)
}

// However many bookings come and go meanwhile, who watches and comes back knows in the end what is
// open.
func TestWatchOpenBookingsConverges(t *testing.T) {
	e, url := streaming(t)
	bearer := e.rider(rita)
	for range 250 { // more than a page
		e.book()
	}
	finished := make(chan booking.ID)
	go func() {
		defer close(finished)
		for i := range 300 {
			id := e.book()
			switch i % 3 {
			case 0:
				_, _ = e.desk.Accept(t.Context(), command(booking.Rider, rolf), id)
			case 1:
				_, _ = e.desk.Cancel(t.Context(), command(booking.User, ulla), id, "")
			}
		}
		finished <- e.book()
	}()
	open, after := make(map[booking.ID]bool), ""
	var marker booking.ID
	for turn := 0; marker == "" || !open[marker]; turn++ {
		s := webtest.Watch(t, url+"/open-bookings/events", bearer, "Last-Event-ID", after)
		if after == "" {
			clear(open)
		}
		for range 400 + 50*(turn%3) {
			if marker == "" {
				select {
				case marker = <-finished:
				default:
				}
			}
			if marker != "" && open[marker] {
				break
			}
			id, kind, data := s.Next()
			if _, err := strconv.ParseUint(id, 10, 64); err == nil {
				after = id
			}
			var v struct {
				Booking booking.ID `json:"booking_id"`
			}
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			}
			switch kind {
			case "open":
				open[v.Booking] = true
			case "gone":
				delete(open, v.Booking)
			case "reset":
				clear(open)
			}
		}
		s.Close()
	}
	want := make(map[booking.ID]bool)
	for _, b := range e.ledger.Board.Open(time.Now(), 10_000, 0) {
		want[b.ID] = true
	}
	if !maps.Equal(open, want) {
		t.Errorf("%d are open by the stream, %d by the board", len(open), len(want))
	}
}
