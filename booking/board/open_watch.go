package board

import (
	"slices"
	"time"

	"github.com/example/pillion/booking"
)

// An OpenChange says that a booking has become open, or has ceased to be.
type OpenChange struct {
	Seq     uint64       // of the event
	Kind    booking.Kind // Kind.Public of the event; Requested or Released: it has become open
	At      time.Time
	ID      booking.ID
	Booking booking.Booking // its present state if it has become open, or else zero
	Trace   string          // of the event

	Deadline time.Time // until when it is or was open
}

// Opened reports whether the booking has become open.
func (c *OpenChange) Opened() bool { return c.Kind == booking.Requested || c.Kind == booking.Released }

// An OpenWatch delivers the open bookings of a board: first all of them, in pages, then the
// changes. Call Page until there are no more pages, or Resume. Then call Take, and again after each
// signal of Changed. An OpenWatch is for one goroutine. Call Stop when done.
//
// It reports the set of open bookings, not events. It may omit a booking that opened and closed
// between two calls, and may report that a booking closed that it never reported open.
type OpenWatch struct {
	board   *Board
	rider   booking.RiderID // bookings that this rider lost are omitted; "": none
	changed chan struct{}
	err     error // guarded by watchers.mu
	over    bool  // guarded by watchers.mu

	cursor uint64 // changes up to here have been taken
	page   uint64 // OpenedSeq of the last booking on a page
	paging bool
	shown  uint64 // bookings that opened up to here are on the pages
}

// WatchOpen returns a watch of all open bookings.
func (b *Board) WatchOpen() *OpenWatch { return b.WatchOpenFor("") }

// WatchOpenFor returns a watch of the open bookings that a rider may accept. It omits those that
// the rider lost.
func (b *Board) WatchOpenFor(rider booking.RiderID) *OpenWatch {
	w := &OpenWatch{board: b, rider: rider, changed: make(chan struct{}, 1)}
	b.watchers.mu.Lock()
	defer b.watchers.mu.Unlock()
	b.watchers.open[w] = struct{}{}
	return w
}

// Changed returns a channel that receives a value when there may be changes to Take. It closes when
// the watch ends.
func (w *OpenWatch) Changed() <-chan struct{} { return w.changed }

// Stop ends the watch. It may be called more than once.
func (w *OpenWatch) Stop() {
	x := w.board.watchers
	x.mu.Lock()
	defer x.mu.Unlock()
	if !w.over {
		delete(x.open, w)
		w.end(nil)
	}
}

// end ends w, which the caller has removed from the lists. The caller holds the mutex.
func (w *OpenWatch) end(err error) {
	w.over, w.err = true, err
	close(w.changed)
}

// Seq returns the sequence up to which the watcher has seen all changes, for [OpenWatch.Resume].
func (w *OpenWatch) Seq() uint64 { return w.cursor }

// Resume continues w after sequence seq, up to which the watcher has seen all changes. If that
// would leave a gap, Resume does nothing and returns false.
func (w *OpenWatch) Resume(seq uint64) bool {
	w.board.mu.RLock()
	defer w.board.mu.RUnlock()
	if seq < w.board.changes.lostUntil || seq > w.board.applied {
		return false
	}
	w.cursor = seq
	return true
}

// Page returns the next bookings that are open at time now, at most limit, longest waiting first,
// and whether there may be more. All pages and the following Take together yield the open bookings.
// Page omits bookings whose deadline has passed.
func (w *OpenWatch) Page(now time.Time, limit int) (page []booking.Booking, more bool) {
	b := w.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	if !w.paging {
		w.paging, w.cursor = true, b.applied
	}
	for r := range b.open.after(nanos(now), w.page) {
		if r.releasedBy(w.rider) {
			continue
		}
		if page = append(page, r.clone()); len(page) == limit {
			w.page = r.openedSeq
			return page, true
		}
	}
	w.shown = b.applied
	return page, false
}

// Take returns the changes since the last call, at most limit, and whether there may be more. It
// merges several changes of a booking into its present state, and omits bookings that are overdue
// at time now.
//
// Errors: ErrSlow if the log no longer has all changes, ErrRestart.
func (w *OpenWatch) Take(now time.Time, limit int) (found []OpenChange, more bool, err error) {
	b := w.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := w.failure(); err != nil {
		return nil, false, err
	}
	log := &b.changes
	if w.cursor < log.lostUntil {
		return nil, false, ErrSlow
	}
	for i := log.after(w.cursor); i < len(log.changes); i++ {
		if len(found) == limit {
			return found, true, nil
		}
		c := log.at(i)
		w.cursor = c.seq
		if told, ok := w.resolve(c, nanos(now)); ok {
			found = append(found, told)
		}
	}
	w.cursor = max(w.cursor, b.applied)
	return found, false, nil
}

// resolve returns the change for c, unless the watcher has seen it or it is no longer true.
func (w *OpenWatch) resolve(c *openChange, now int64) (OpenChange, bool) {
	r := c.booking
	told := OpenChange{
		Seq: c.seq, Kind: booking.Kinds()[c.kind-1].Public(), At: timeOf(c.at), ID: r.id, Deadline: timeOf(r.deadline),
		Trace: c.trace,
	}
	if before := r.releases(); slices.Contains(before[:min(int(c.releases), len(before))], w.rider) {
		return OpenChange{}, false // the booking was not open to this rider before, and is not now
	}
	open := r.state == openState && w.board.bookings[r.id] == r && !r.releasedBy(w.rider)
	if !told.Opened() {
		return told, !open // else it is open again, which another change or a page says
	}
	if !open || r.openedSeq != c.seq || c.seq <= w.shown || r.deadline < now {
		return OpenChange{}, false
	}
	told.Booking = r.clone()
	return told, true
}

func (w *OpenWatch) failure() error {
	x := w.board.watchers
	x.mu.Lock()
	defer x.mu.Unlock()
	return w.err
}
