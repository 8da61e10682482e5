package fleet_test

import (
	"testing"
	"time"

	"github.com/example/pillion/fleet"
)

func TestSayingOnlineIsNoPosition(t *testing.T) {
	m, _ := newMap(t, fleet.Options{})
	say(t, m, "rita", true)
	if _, ok := m.Last("rita"); ok || m.Online("rita") {
		t.Error("going online gave a rider a position")
	}
}

// A late or repeated report changes neither the position nor its age.
func TestLateAndRepeatedReports(t *testing.T) {
	here, c := newMap(t, fleet.Options{})
	there, _ := newMap(t, fleet.Options{})
	first := move(t, there, "rita", town)
	second := move(t, there, "rita", north(town, 1000)) // in the same millisecond
	learn(t, here, second, true)
	c.pass(10 * time.Second)
	learn(t, here, first, false)
	learn(t, here, second, false)
	p, _ := here.Last("rita")
	if p.Place != second.Place || !p.At.Equal(noon) {
		t.Errorf("a late report changed the position to %+v", p)
	}
	on, off := say(t, there, "rita", true), say(t, there, "rita", false)
	learn(t, here, off, true)
	learn(t, here, on, false)
	if here.Online("rita") {
		t.Error("an earlier status put a rider online")
	}
	third := move(t, there, "rita", town)
	if third.Online || third.Said != off.Said {
		t.Errorf("the status after a report does not say that the rider is offline: %+v", third)
	}
}

// Different clocks put no rider offline. Statuses are ordered as they happened, as long as every
// instance hears all of them.
func TestClocksThatDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-3 * time.Hour, -5 * time.Second, 5 * time.Second, 3 * time.Hour} {
		here, c := newMap(t, fleet.Options{})
		there, other := newMap(t, fleet.Options{})
		other.pass(ahead)
		for i := range 10 {
			from, to := here, there
			if i%2 == 0 {
				from, to = there, here
			}
			place := north(town, float64(100*i))
			learn(t, to, move(t, from, "rita", place), true)
			learn(t, to, say(t, from, "rita", i%3 > 0), true)
			c.pass(time.Second)
			other.pass(time.Second)
			for name, m := range map[string]*fleet.Map{"here": here, "there": there} {
				if p, ok := m.Where("rita"); !ok || p.Place != place || m.Online("rita") != (i%3 > 0) {
					t.Fatalf("%s ahead, step %d, %s: %+v, %v, online %v", ahead, i, name, p, ok, m.Online("rita"))
				}
			}
		}
		// An instance that has just started gets all reports, and knows no earlier ones. Its
		// statuses count at once, or when the position known elsewhere has expired.
		young, third := newMap(t, fleet.Options{})
		third.t = c.now()
		s := move(t, young, "rita", town)
		if news, _ := there.Learn(s); news != (ahead <= 0) {
			t.Errorf("%s ahead: news is %v", ahead, news)
		}
		other.pass(61 * time.Second)
		third.pass(61 * time.Second)
		learn(t, there, move(t, young, "rita", north(town, 7)), true)
		if p, ok := there.Where("rita"); !ok || p.Place != north(town, 7) {
			t.Errorf("%s ahead: Where = %+v, %v; want the new position", ahead, p, ok)
		}
	}
}

// An instance that has just started does not know that a rider is offline. Its statuses do not put
// the rider online elsewhere.
func TestIgnoranceIsNoNews(t *testing.T) {
	old, c := newMap(t, fleet.Options{})
	say(t, old, "rita", false)
	c.pass(time.Second)
	young, _ := newMap(t, fleet.Options{Now: c.now})
	s := move(t, young, "rita", town)
	if s.Said != 0 {
		t.Errorf("the status has a Said that the rider never gave: %+v", s)
	}
	learn(t, old, s, true)
	if old.Online("rita") {
		t.Error("an ignorant instance put a rider online")
	}
	learn(t, young, move(t, old, "rita", town), true)
	if young.Online("rita") {
		t.Error("the new instance did not learn that the rider is offline")
	}
}

// A position keeps its age when an instance sends it again, or another learns it for the first
// time.
func TestAnOldPositionStaysOld(t *testing.T) {
	for _, c := range []struct {
		age   time.Duration
		known bool // whether the position counts after the rider goes online
	}{{0, true}, {59 * time.Second, true}, {61 * time.Second, false}, {50 * time.Minute, false}} {
		here, clock := newMap(t, fleet.Options{})
		there, thereClock := newMap(t, fleet.Options{}) // has just started
		move(t, here, "rita", town)
		clock.pass(c.age)
		learn(t, there, say(t, here, "rita", true), true)
		for name, m := range map[string]*fleet.Map{"here": here, "there": there} {
			if _, known := m.Where("rita"); known != c.known || m.Online("rita") != c.known {
				t.Errorf("%s, after %s: known %v, online %v, want %v", name, c.age, known, m.Online("rita"), c.known)
			}
		}
		thereClock.pass(61*time.Second - min(c.age, time.Minute))
		if _, known := there.Where("rita"); known {
			t.Errorf("a position that was %s old when it was sent counts for too long", c.age)
		}
	}
}

// A position keeps its age on other instances, also in the status of a rider who goes online.
func TestAgeIsTold(t *testing.T) {
	one, c := newMap(t, fleet.Options{})
	two, other := newMap(t, fleet.Options{})
	other.pass(-3 * time.Hour)
	s, _, err := one.Report("rita", fleet.Fix{Place: town, At: c.now().Add(-50 * time.Second), Accuracy: 7})
	if err != nil {
		t.Fatal(err)
	}
	learn(t, two, s, true)
	if p, ok := two.Where("rita"); !ok || !p.At.Equal(other.now().Add(-50*time.Second)) {
		t.Errorf("the other instance has %+v, %v", p, ok)
	}
	other.pass(11 * time.Second)
	if two.Online("rita") {
		t.Error("a position that is 61 seconds old counts")
	}
	c.pass(30 * time.Minute)
	three, _ := newMap(t, fleet.Options{Now: c.now})
	learn(t, three, say(t, one, "rita", true), true)
	if three.Online("rita") {
		t.Error("a position that is half an hour old counts")
	}
}
