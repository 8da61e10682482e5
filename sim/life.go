package sim

import (
	"sync"
	"time"

	"github.com/example/pillion/booking"
)

// An activity is what a rider does at a time.
type activity int

const (
	off      activity = iota // not on shift
	idle                     // waits for a booking
	coming                   // is on the way to a pickup
	carrying                 // has a passenger
	activities
)

// A life is where a rider is, what it does, and what it has earned. It is safe for concurrent use.
type life struct {
	guard  sync.Mutex
	where  booking.Place
	does   activity
	since  time.Time // when that began
	spent  [activities]time.Duration
	earned int64 // minor units of the currency
}

func newLife(home booking.Place) life { return life{where: home, since: time.Now()} }

func (l *life) place() booking.Place {
	l.guard.Lock()
	defer l.guard.Unlock()
	return l.where
}

func (l *life) move(to booking.Place) {
	l.guard.Lock()
	defer l.guard.Unlock()
	l.where = to
}

// metresTo returns the distance to a place, as the crow flies; 0 if there is none.
func (l *life) metresTo(to *booking.Place) float64 {
	if to == nil {
		return 0
	}
	return l.place().Distance(*to)
}

// become ends one activity and begins another one.
func (l *life) become(a activity) {
	l.guard.Lock()
	defer l.guard.Unlock()
	now := time.Now()
	l.spent[l.does] += now.Sub(l.since)
	l.does, l.since = a, now
}

func (l *life) earn(fare int64) {
	l.guard.Lock()
	defer l.guard.Unlock()
	l.earned += fare
}

// account returns how long the rider has done what, and what it has earned.
func (l *life) account() (spent [activities]time.Duration, earned int64) {
	l.guard.Lock()
	defer l.guard.Unlock()
	return l.spent, l.earned
}
