package natsfleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// A fleetInstance is a Map that hears from others.
type fleetInstance struct {
	*fleet.Map
	*natsfleet.Positions
	conn     *bus.Conn
	registry *prometheus.Registry
}

// newFleetInstance starts one and returns when all hear each other. Its clock is ahead of the
// machine's.
func newFleetInstance(t testing.TB, e *bustest.Env, ahead time.Duration, others ...*fleetInstance) *fleetInstance {
	t.Helper()
	m, err := fleet.NewMap(fleet.Options{Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	in := &fleetInstance{Map: m, registry: prometheus.NewRegistry()}
	in.conn = e.ConnectWith(t, bus.Config{Registerer: in.registry})
	in.Positions = natsfleet.NewPositions(in.conn, m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("positions: %v", err)
		}
	})
	// A server that does not know yet who listens at another drops what is published to them.
	for _, from := range append(others, in) {
		someone := booking.RiderID(booking.NewID())
		wait.Until(t, "all instances hear one", func() bool {
			announce(t, from)(from.reports(someone, booking.Place{Lat: -80}))
			if from == in && in.count(t, "known") == 0 { // its own report
				return false
			}
			for _, to := range append(others, in) {
				if _, heard := to.Where(someone); !heard {
					return false
				}
			}
			return true
		})
	}
	return in
}

// count returns how many positions had a result.
func (in *fleetInstance) count(t testing.TB, result string) float64 {
	t.Helper()
	families, err := in.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "pillion_positions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// reports is a rider's report, for announce.
func (in *fleetInstance) reports(id booking.RiderID, p booking.Place) (fleet.Status, error) {
	s, _, err := in.Report(id, fleet.Fix{Place: p})
	return s, err
}

func announce(t testing.TB, in *fleetInstance) func(fleet.Status, error) {
	return func(s fleet.Status, err error) {
		t.Helper()
		if err := errors.Join(err, in.Announce(t.Context(), s)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a rider reports to one instance, all know, whatever their clocks say.
func TestPositionsAreKnownEverywhere(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		one := newFleetInstance(t, e, 0)
		two := newFleetInstance(t, e, -4*time.Second, one)
		rita := booking.RiderID(booking.NewID())
		here := booking.Place{Lat: 12.97, Lng: 77.59}
		for i := range 20 {
			from, to := one, two
			if i%2 == 1 {
				from, to = two, one
			}
			here.Lat += 0.001
			announce(t, from)(from.reports(rita, here))
			wait.Until(t, "the other instance knows where the rider is", func() bool {
				p, ok := to.Where(rita)
				return ok && p.Place == here && to.Online(rita)
			})
			announce(t, to)(to.SetOnline(rita, false))
			wait.Until(t, "the other instance knows that the rider is offline",
				func() bool { return !from.Online(rita) })
			announce(t, from)(from.SetOnline(rita, true))
			wait.Until(t, "the other instance knows that the rider is online", func() bool { return to.Online(rita) })
		}
		// One that starts late learns all of it from the next report.
		announce(t, one)(one.SetOnline(rita, false))
		three := newFleetInstance(t, e, time.Second, one, two)
		if _, ok := three.Where(rita); ok {
			t.Error("somebody is known before anything was heard")
		}
		announce(t, one)(one.reports(rita, here))
		wait.Until(t, "the new instance knows where the rider is",
			func() bool { _, ok := three.Where(rita); return ok })
		if three.Online(rita) {
			t.Error("the new instance takes the rider for online")
		}
	})
}

// Without NATS announcing fails, and a rider's next report makes up for the loss.
func TestPositionsAfterAnOutage(t *testing.T) {
	m, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(bus.Config{URL: "nats://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	defer conn.Close(ctx)
	s, _, err := m.Report(booking.RiderID(booking.NewID()), fleet.Fix{Place: booking.Place{Lat: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := natsfleet.NewPositions(conn, m).Announce(t.Context(), s); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("announced to nobody: %v", err)
	}
}

// Whoever may publish positions decides whether a rider comes nearer, and so whether that rider
// keeps an accepted booking: no report over HTTP, and no token, is needed.
func TestPositionsDecideWhoComes(t *testing.T) {
	e := bustest.Run(t)
	pickup := booking.Place{Lat: 12.97, Lng: 77.59}
	b := booking.Booking{Rider: booking.RiderID(booking.NewID()), Pickup: &pickup, Seq: 7}
	begun := time.Now()
	var passed atomic.Int64
	riders, err := fleet.NewMap(fleet.Options{
		Now: func() time.Time { return begun.Add(time.Duration(passed.Load())) },
		Heading: func(booking.RiderID) (booking.Heading, bool) {
			return booking.Heading{Pickup: pickup, Seq: b.Seq, Since: begun}, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, natsfleet.NewPositions(e.Connect(t), riders).Run)
	forger := e.Connect(t).NATS()
	const degree = 111_195.0 // metres
	for _, metres := range []float64{3004, 3003, 3002, 3001, 3000, 2900, 2800, 2700, 2600, 2500, 2400} {
		passed.Add(int64(10 * time.Second))
		there := booking.Place{Lat: pickup.Lat + metres/degree, Lng: pickup.Lng}
		data, err := json.Marshal(map[string]any{"v": 1, "lat": there.Lat, "lng": there.Lng,
			"at": begun.UnixMilli() + passed.Load()/1e6})
		if err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "a forged position is believed", func() bool {
			if err := forger.Publish(bus.PositionPrefix+string(b.Rider), data); err != nil {
				t.Fatal(err)
			}
			at, known := riders.Where(b.Rider)
			return known && at.Place == there
		})
	}
	if a := riders.Approach(b); a.Metres < 50 || a.At.IsZero() {
		t.Errorf("the rider has come %.0f m nearer at %v, want more than 50", a.Metres, a.At)
	}
}

// Malformed positions are ignored and counted, and the next ones are taken.
func TestMalformedPositions(t *testing.T) {
	e := bustest.Run(t)
	in := newFleetInstance(t, e, 0)
	forger := e.Connect(t).NATS()
	rita := booking.NewID()
	now := time.Now().UnixMilli()
	body := func(change func(map[string]any)) string {
		v := map[string]any{"v": 1, "lat": 12.5, "lng": 77.5, "at": now, "online": true, "said": now}
		change(v)
		data, _ := json.Marshal(v) // maps of plain values cannot fail
		return string(data)
	}
	with := func(name string, value any) string { return body(func(v map[string]any) { v[name] = value }) }
	without := func(names ...string) string {
		return body(func(v map[string]any) {
			for _, n := range names {
				delete(v, n)
			}
		})
	}
	whole := body(func(map[string]any) {})
	bad := []struct{ subject, data string }{
		{"fleet.position.rita", whole},
		{"fleet.position." + strings.ToUpper(rita), whole},
	}
	for _, data := range []string{
		"", "x", "null", "[]", "{}", `"x"`, whole + "x", whole + whole, whole[:len(whole)-1], whole +
			strings.Repeat(" ", 512),
		with("v", 2), with("v", 0), with("v", "1"), without("v"), without("lat"), without("lng"), without("at"),
		without("said"), without("online"),
		without("lat", "lng", "at", "online", "said"), with("lat", 90.5), with("lat", "NaN"), with("lng", -180.5),
		with("lng", 1e300), with("lat", nil),
		with("age", -1), with("age", 1000*3600*25), with("age", 1e30), with("at", -1), with("at", now+1000*3600*25),
		with("at", 1.5), with("said", -1), with("said", now+1000*3600*25), with("online", "true"), with("at", 1e30),
		strings.Replace(whole, "12.5", "1e999", 1), strings.Replace(whole, "12.5", "NaN", 1),
	} {
		bad = append(bad, struct{ subject, data string }{"fleet.position." + rita, data})
	}
	for _, b := range bad {
		if err := forger.Publish(b.subject, []byte(b.data)); err != nil {
			t.Fatal(err)
		}
	}
	rolf := booking.RiderID(booking.NewID())
	if err := forger.PublishMsg(&nats.Msg{Subject: "fleet.position." + string(rolf),
		Data: []byte(without("online", "said"))}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "a good one is taken", func() bool { _, ok := in.Where(rolf); return ok })
	if got := in.count(t, "malformed"); got != float64(len(bad)) {
		t.Errorf("%v were malformed, want %d", got, len(bad))
	}
	if p, ok := in.Last(booking.RiderID(rita)); ok {
		t.Errorf("one of them was taken: %+v", p)
	}
}

// FuzzPosition sends anything: it is taken whole, or ignored.
func FuzzPosition(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"v":1,"lat":1,"lng":2,"at":3}`, `{"v":1,"online":false,"said":3}`,
		`{"v":1,"lat":1,"lng":2,"at":3,"online":true,"said":1}`, `{"v":1,"lat":1e999}`} {
		f.Add([]byte(seed))
	}
	e := bustest.Run(f)
	in := newFleetInstance(f, e, 0)
	nc := e.Connect(f).NATS()
	f.Fuzz(func(t *testing.T, data []byte) {
		rita, mark := booking.RiderID(booking.NewID()), booking.RiderID(booking.NewID())
		if len(data) > 1<<16 {
			return
		}
		if err := nc.Publish("fleet.position."+string(rita), data); err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish("fleet.position."+string(mark), []byte(`{"v":1,"lat":1,"lng":2,"at":1}`)); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "what follows is taken", func() bool { _, ok := in.Last(mark); return ok })
		if p, ok := in.Last(rita); ok && p.Valid() != nil {
			t.Errorf("%q put a rider at %v", data, p)
		}
	})
}
