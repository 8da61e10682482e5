package board

import (
	"context"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// Reasons why a watch ends by itself. The watcher may start a new watch.
var (
	// ErrSlow says that the watcher fell too far behind. It can read what it missed.
	ErrSlow = fault.New(fault.Unavailable, "slow_reader",
		"You read the events too slowly. Please watch again.")
	// ErrRestart says that the board was replaced, because the verification of past events has
	// changed. Earlier answers may be wrong: read everything again.
	ErrRestart = fault.New(fault.Unavailable, "restart",
		"Past events have been verified again, and some may have changed. Please watch again, from the beginning.")
	// ErrForgotten says that the booking has aged out of the ledger, so it cannot change any more.
	ErrForgotten = fault.New(fault.NotFound, "forgotten",
		"This booking is no longer stored, so you cannot watch it.")
)

// watchBuffer is how many changes a watcher may be behind. A ride has about five.
const watchBuffer = 32

// A Watch delivers the changes of one booking, in the ledger's order. The board never waits for a
// watcher, and ends the watch of one that is too slow. Call Stop when done.
type Watch struct {
	watchers *watchers
	id       booking.ID

	// Guarded by watchers.mu.
	changes chan *booking.Change
	after   uint64 // changes up to this sequence are skipped
	err     error
	over    bool
}

// Watch returns a watch of the changes of a booking from now on. The board need not know the
// booking.
func (b *Board) Watch(id booking.ID) *Watch {
	return b.watchers.add(booking.ID(strings.Clone(string(id))))
}

// Changes returns the channel of changes. It closes when the watch ends; Err returns the reason.
func (w *Watch) Changes() <-chan *booking.Change {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	return w.changes
}

// Err returns why the watch has ended: ErrSlow, ErrRestart or ErrForgotten. It returns nil for a
// watch that has not ended, or was stopped.
func (w *Watch) Err() error {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	return w.err
}

// Stop ends the watch. It may be called more than once.
func (w *Watch) Stop() { w.watchers.remove(w) }

// skip makes w skip changes up to sequence seq. No goroutine may receive from w yet.
func (w *Watch) skip(seq uint64) {
	w.watchers.mu.Lock()
	defer w.watchers.mu.Unlock()
	w.after = seq
	if w.over {
		return // the watcher starts again
	}
	for range len(w.changes) {
		if c := <-w.changes; c.Event.Seq > seq {
			w.changes <- c // there is room: this loop has just received it
		}
	}
}

// Follow returns the current history of a booking, and a watch of all later changes, without gaps
// or repetitions. The caller checks permissions, and stops the watch.
//
// Errors: those of [booking.Desk.History].
func (b *Board) Follow(ctx context.Context, desk *booking.Desk, id booking.ID) (booking.History, *Watch, error) {
	w := b.Watch(id) // before the read, so that no change is missed
	h, err := desk.History(ctx, id)
	if err != nil {
		w.Stop()
		return booking.History{}, nil, err
	}
	w.skip(h.Revision)
	return h, w, nil
}

// end ends w, which the caller has removed from the lists. The caller holds the mutex.
func (w *Watch) end(err error) {
	w.over, w.err = true, err
	close(w.changes)
}
