package fleet_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A clock stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newMap returns a Map and its clock, which starts at noon. Options.Now overrides that clock.
func newMap(t testing.TB, o fleet.Options) (*fleet.Map, *clock) {
	t.Helper()
	c := &clock{t: noon}
	if o.Now == nil {
		o.Now = c.now
	}
	m, err := fleet.NewMap(o)
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

var town = booking.Place{Lat: 12.97, Lng: 77.59}

// north returns the place some metres north of p.
func north(p booking.Place, metres float64) booking.Place {
	return booking.Place{Lat: p.Lat + metres/111_195, Lng: p.Lng}
}

func move(t testing.TB, m *fleet.Map, id booking.RiderID, to booking.Place) fleet.Status {
	t.Helper()
	s, verdict, err := m.Report(id, fleet.Fix{Place: to})
	if err != nil || verdict != fleet.Believed {
		t.Fatalf("%s reports %v: %s %v", id, to, verdict, err)
	}
	return s
}

func say(t testing.TB, m *fleet.Map, id booking.RiderID, online bool) fleet.Status {
	t.Helper()
	s, err := m.SetOnline(id, online)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// learn fails the test unless Learn reports want.
func learn(t testing.TB, m *fleet.Map, s fleet.Status, want bool) {
	t.Helper()
	if news, err := m.Learn(s); err != nil || news != want {
		t.Errorf("%+v is news: %v, %v, want %v", s, news, err, want)
	}
}

func riders(ns []fleet.Neighbour) string {
	var ids []string
	for _, n := range ns {
		ids = append(ids, string(n.Rider))
	}
	return strings.Join(ids, " ")
}

// next returns the position waiting in a channel, and fails the test if there is none.
func next(t *testing.T, ch <-chan fleet.Position) fleet.Position {
	t.Helper()
	select {
	case p, ok := <-ch:
		if !ok {
			t.Fatal("the channel is closed; want a position")
		}
		return p
	default:
		t.Fatal("no position is waiting")
	}
	return fleet.Position{}
}

func nothing(t *testing.T, ch <-chan fleet.Position) {
	t.Helper()
	select {
	case p, ok := <-ch:
		t.Fatalf("the channel has %+v, %v; want nothing", p, ok)
	default:
	}
}

// abroad is on another continent.
var abroad = booking.Place{Lat: 40.7, Lng: -74}
