package board

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// Why a watch ends by itself. None of them is a failure of the watcher: it may watch anew.
var (
	// ErrSlow is that the watcher did not take what it was told in time. What it missed it can
	// read.
	ErrSlow = fault.New(fault.Unavailable, "slow_reader",
		"You were told more than you took. Please watch again.")
	// ErrRestart is that the board is another one from now on, because verdicts about the past have
	// changed: what was told may not be so any more. Read everything anew.
	ErrRestart = fault.New(fault.Unavailable, "restart",
		"What happened so far has been judged anew. Please watch again, from the beginning.")
	// ErrForgotten is that the booking has aged out of the ledger: nothing more can come.
	ErrForgotten = fault.New(fault.NotFound, "forgotten",
		"This booking is too old to be watched.")
)

// watchBuffer is how many changes of one booking a watcher may be behind. A ride has about five.
const watchBuffer = 32

// A Watch tells one watcher what happens to one booking, in the ledger's order. The board never
// waits for it: who is too far behind is dropped. Stop it when it is not needed any more.
type Watch struct {
	watchers *watchers
	id       booking.ID

	// Guarded by watchers.mu.
	changes chan *booking.Change
	after   uint64 // what happened up to this sequence is not told
	err     error
	over    bool
}

// Watch returns a watch of what happens to a booking from now on, be it known to the board or not.
// It costs nobody anything but those who watch the same booking.
func (b *Board) Watch(id booking.ID) *Watch {
	return b.watchers.add(booking.ID(strings.Clone(string(id))))
}

// Changes returns what happens, one by one. It is closed when the watch ends: Err says why.
func (w *Watch) Changes() <-chan *booking.Change {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	return w.changes
}

// Err returns why the watch has ended: ErrSlow, ErrRestart or ErrForgotten; nil as long as it has
// not, and when it was stopped.
func (w *Watch) Err() error {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	return w.err
}

// Stop ends the watch. It may be called more than once.
func (w *Watch) Stop() { w.watchers.remove(w) }

// skip makes w tell nothing of what happened up to sequence seq. Nobody may be receiving from it
// yet.
func (w *Watch) skip(seq uint64) {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	w.after = seq
	if w.over {
		return // and what waits in it is not worth being told: its watcher begins anew
	}
	for range len(w.changes) {
		if c := <-w.changes; c.Event.Seq > seq {
			w.changes <- c // there is room: it was just taken out
		}
	}
}

// Follow returns the history of a booking as the log has it now, and a watch of what happens after
// that: nothing is missing in between and nothing comes twice. Whether the caller may see it is for
// the caller to say. Stop the watch.
//
// Errors: those of [booking.Desk.History].
func (b *Board) Follow(ctx context.Context, desk *booking.Desk, id booking.ID) (booking.History, *Watch, error) {
	w := b.Watch(id) // first, so that it tells whatever the history does not have yet
	h, err := desk.History(ctx, id)
	if err != nil {
		w.Stop()
		return booking.History{}, nil, err
	}
	w.skip(h.Revision)
	return h, w, nil
}

// watchers are those who watch a board. Their mutex is the innermost: it may be locked with the
// board's held, and nothing that waits is done under it.
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

// end ends w, which is in no list any more. It is called with the mutex held.
func (w *Watch) end(err error) {
	w.over, w.err = true, err
	close(w.changes)
}

// tell tells the watchers of a booking what has happened. It never waits.
func (x *watchers) tell(e *booking.Event, r *record) {
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

// forget ends the watches of a booking that the board does not know any more.
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

// wake tells those who watch the open bookings that there is something to take. It never waits.
func (x *watchers) wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.open {
		select {
		case w.changed <- struct{}{}:
		default: // it has not looked since it was told
		}
	}
}
