package fleet_test

import (
	"testing"
	"time"

	"github.com/example/pillion/fleet"
)

// next returns what is there to read, or fails the test.
func next(t *testing.T, ch <-chan fleet.Position) fleet.Position {
	t.Helper()
	select {
	case p, ok := <-ch:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return p
	default:
		t.Fatal("there is nothing to read")
	}
	return fleet.Position{}
}

func nothing(t *testing.T, ch <-chan fleet.Position) {
	t.Helper()
	select {
	case p, ok := <-ch:
		t.Fatalf("there is %+v, %v", p, ok)
	default:
	}
}

func TestWatch(t *testing.T) {
	m, c := newMap(t, fleet.Options{})
	early, stopEarly := m.Watch("rita")
	nothing(t, early) // nobody knows where she is
	move(t, m, "rolf", town)
	say(t, m, "rita", true)
	nothing(t, early)
	move(t, m, "rita", town)
	if p := next(t, early); p.Place != town || !p.At.Equal(noon) {
		t.Errorf("rita is at %+v", p)
	}
	late, stopLate := m.Watch("rita")
	if p := next(t, late); p.Place != town {
		t.Errorf("who comes late is told %+v", p)
	}
	for i := range 100 { // nobody reads, and nobody waits
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(i)))
	}
	for _, ch := range []<-chan fleet.Position{early, late} {
		if p := next(t, ch); p.Place != north(town, 99) || !p.At.Equal(c.now()) {
			t.Errorf("a slow reader is told %+v", p)
		}
		nothing(t, ch)
	}
	stopEarly()
	stopEarly()
	if _, ok := <-early; ok {
		t.Error("a channel is not closed")
	}
	say(t, m, "rita", false)
	learn(t, m, fleet.Status{Rider: "rita", Place: town, At: c.now().Add(time.Second).UnixMilli()}, true) // from another instance
	if p := next(t, late); p.Place != town {
		t.Errorf("the other reader is told %+v", p)
	}
	learn(t, m, fleet.Status{Rider: "rita", Place: north(town, 5), At: 1}, false)
	nothing(t, late)
	stopLate()
	move(t, m, "rita", town)
	c.pass(2 * time.Hour)
	forgotten, stop := m.Watch("rita")
	nothing(t, forgotten)
	move(t, m, "rita", town)
	next(t, forgotten)
	stop()
}
