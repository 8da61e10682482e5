package board

import (
	"slices"
	"sync"

	"github.com/example/pillion/booking"
)

// watchers are the watches of a board. Their mutex is the innermost: it may be locked while the
// board's is held. No code that holds it waits.
type watchers struct {
	mu      sync.Mutex
	booking map[booking.ID][]*Watch
	open    map[*OpenWatch]struct{}
}

func newWatchers() *watchers {
	return &watchers{booking: make(map[booking.ID][]*Watch), open: make(map[*OpenWatch]struct{})}
}

func (x *watchers) add(id booking.ID) *Watch {
	w := &Watch{watchers: x, id: id, changes: make(chan *booking.Change, watchBuffer)}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.booking[id] = append(x.booking[id], w)
	return w
}

func (x *watchers) remove(w *Watch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w.over {
		return
	}
	rest := slices.DeleteFunc(x.booking[w.id], func(o *Watch) bool { return o == w })
	if len(rest) == 0 {
		delete(x.booking, w.id)
	} else {
		x.booking[w.id] = rest
	}
	w.end(nil)
}

// notify delivers an event to the watchers of its booking. It never waits.
func (x *watchers) notify(e *booking.Event, r *record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.booking[e.Booking]
	if len(all) == 0 {
		return
	}
	change := &booking.Change{Event: *e, Booking: r.clone()}
	rest := slices.DeleteFunc(all, func(w *Watch) bool {
		if e.Seq <= w.after {
			return false
		}
		select {
		case w.changes <- change:
			return false
		default:
			w.end(ErrSlow)
			return true
		}
	})
	if len(rest) == 0 {
		delete(x.booking, e.Booking)
	} else {
		x.booking[e.Booking] = rest
	}
}

// forget ends the watches of a booking that the board has dropped.
func (x *watchers) forget(id booking.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.booking[id] {
		w.end(ErrForgotten)
	}
	delete(x.booking, id)
}

// restart ends all watches.
func (x *watchers) restart() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, all := range x.booking {
		for _, w := range all {
			w.end(ErrRestart)
		}
	}
	clear(x.booking)
	for w := range x.open {
		w.end(ErrRestart)
	}
	clear(x.open)
}

// wake signals the watchers of open bookings that there are changes. It never waits.
func (x *watchers) wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.open {
		select {
		case w.changed <- struct{}{}:
		default: // a signal is pending
		}
	}
}
