package sim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/sim"
)

// TestWatchersCount omits one event, sends one twice and one too late: all are counted, and the
// missing one makes the report bad.
func TestWatchersCount(t *testing.T) {
	t.Parallel()
	env := bustest.Run(t)
	nc := env.Connect(t).NATS()
	tell := func(r *http.Request, id string, n int, kind booking.Kind, times int) {
		subject := fmt.Sprintf("feed.user.%s.%s.%d.%s", caller(r), id, n, kind)
		body, _ := json.Marshal(map[string]any{"v": 1, "booking_id": id, "n": n, "event": kind, "state": "open",
			"role": "user", "at": time.Now()})
		m := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{"ce-id": {booking.NewID()}}}
		for range times {
			if err := nc.PublishMsg(m); err != nil {
				t.Error(err)
			}
		}
	}
	var n atomic.Int64
	f := &fake{}
	f.say = map[string]http.HandlerFunc{"POST /book": func(w http.ResponseWriter, r *http.Request) {
		id := keyed(r)
		switch n.Add(1) {
		case 2: // omit the event
		case 3:
			tell(r, id, 1, booking.Requested, 2)
		case 4:
			tell(r, id, 2, booking.Cancelled, 1)
			tell(r, id, 1, booking.Requested, 1)
		default:
			tell(r, id, 1, booking.Requested, 1)
		}
		answer(w, http.StatusOK, map[string]any{"booking_id": id})
	}}
	c := config(t, f, sim.Crowd{Rate: 10})
	c.NATS, c.Duration, c.Patience = &bus.Config{URL: env.URL()}, 500*time.Millisecond, 5*time.Second
	r := run(t, c)
	want := sim.Watched{Watchers: 11, Events: 5, Duplicates: 1, OutOfOrder: 1, Expected: 5, Missing: 1,
		Lag: r.Watched.Lag}
	if r.Watched != want || want.Lag.Count != 6 || r.Good() || len(r.Violations) > 0 {
		t.Errorf("%+v, want %+v; good %v", r.Watched, want, r.Good())
	}
}
