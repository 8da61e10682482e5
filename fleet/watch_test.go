package fleet_test

import (
	"testing"
	"time"

	"github.com/example/pillion/fleet"
)

func TestWatch(t *testing.T) {
	m, c := newMap(t, fleet.Options{})
	early, stopEarly := m.Watch("rita")
	nothing(t, early) // there is no position
	move(t, m, "rolf", town)
	say(t, m, "rita", true)
	nothing(t, early)
	move(t, m, "rita", town)
	if p := next(t, early); p.Place != town || !p.At.Equal(noon) {
		t.Errorf("rita is at %+v", p)
	}
	late, stopLate := m.Watch("rita")
	if p := next(t, late); p.Place != town {
		t.Errorf("a late watcher gets %+v", p)
	}
	for i := range 100 { // nobody reads, and Report does not wait
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(i)))
	}
	for _, ch := range []<-chan fleet.Position{early, late} {
		if p := next(t, ch); p.Place != north(town, 99) || !p.At.Equal(c.now()) {
			t.Errorf("a slow reader gets %+v", p)
		}
		nothing(t, ch)
	}
	stopEarly()
	stopEarly()
	if _, ok := <-early; ok {
		t.Error("stop did not close the channel")
	}
	say(t, m, "rita", false)
	// from another instance
	learn(t, m, fleet.Status{Rider: "rita", Place: town, At: c.now().Add(time.Second).UnixMilli()}, true)
	if p := next(t, late); p.Place != town {
		t.Errorf("the other reader gets %+v", p)
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
