package board

import (
	"slices"
	"sort"
	"time"

	"github.com/example/pillion/booking"
)

// An OpenChange is that a booking has become open, or is not open any more.
type OpenChange struct {
	Seq uint64 // of the event
	// of the event: Requested or Released where it has become open, else why it is not any more
	Kind    booking.Kind
	At      time.Time
	ID      booking.ID
	Booking booking.Booking // as it is now, where it has become open; else the zero one

	Deadline time.Time // until when it is or was offered
}

// Opened reports whether the booking has become open.
func (c *OpenChange) Opened() bool { return c.Kind == booking.Requested || c.Kind == booking.Released }

// An openLog has the newest changes of the set of open bookings, so that all who watch the set
// share one memory, and whoever was away for a moment can go on where it stopped.
type openLog struct {
	changes []openChange // in the order of the ledger; a ring once it is full
	first   int          // index of the oldest one
	gone    uint64       // no change after this sequence is missing
}

// openChange is an OpenChange as it is kept.
type openChange struct {
	seq     uint64
	at      int64
	booking *record // it may be one that the board has forgotten meanwhile
	kind    uint8   // its index in Kinds, from 1

	releases uint32 // how many riders had given it back by then
}

// openLogSize is how many changes are kept, in 64 KiB. At two hundred a second they last for ten
// seconds: longer than it takes to come back.
const openLogSize = 2048

func (l *openLog) add(c openChange) {
	if len(l.changes) < openLogSize {
		l.changes = append(l.changes, c)
		return
	}
	l.gone = l.changes[l.first].seq
	l.changes[l.first] = c
	l.first = (l.first + 1) % openLogSize
}

func (l *openLog) at(i int) *openChange { return &l.changes[(l.first+i)%len(l.changes)] }

// after returns the position of the first change after sequence seq.
func (l *openLog) after(seq uint64) int {
	return sort.Search(len(l.changes), func(i int) bool { return l.at(i).seq > seq })
}

// note keeps that e has changed the set of open bookings, and reports whether it has. A booking
// that was open before e and is open after it is another offer; no event does that.
func (c *contents) note(e *booking.Event, r *record, before stateCode) bool {
	c.applied = max(c.applied, e.Seq)
	if (before == openState) == (r.state == openState) {
		return false
	}
	c.changes.add(openChange{seq: e.Seq, at: nanos(e.When()), booking: r, kind: uint8(e.Kind.Index()),
		releases: uint32(len(r.releases()))})
	return true
}

// An OpenWatch tells one watcher of the open bookings of a board: first all that there are, in
// pages, then what changes. Call Page until there is nothing more, or Resume; then Take, and again
// whenever Changed says so. It is for one goroutine. Stop it when it is not needed any more.
//
// It is about the set and not about events: a booking that has become open and ceased to be between
// two calls may not be told of, and one may be told to be gone that was never told to be open.
type OpenWatch struct {
	board   *Board
	rider   booking.RiderID // is told nothing of what it has given back; "": nobody
	changed chan struct{}
	err     error // guarded by watchers.mu
	over    bool  // likewise

	cursor uint64 // up to here all is told
	page   uint64 // OpenedSeq of the last one of the pages
	paging bool
	shown  uint64 // what became open up to here is on a page
}

// WatchOpen returns a watch of all open bookings.
func (b *Board) WatchOpen() *OpenWatch { return b.WatchOpenFor("") }

// WatchOpenFor returns a watch of the open bookings that a rider may accept: to one who has given a
// booking back it is not open.
func (b *Board) WatchOpenFor(rider booking.RiderID) *OpenWatch {
	w := &OpenWatch{board: b, rider: rider, changed: make(chan struct{}, 1)}
	b.watchers.mu.Lock()
	defer b.watchers.mu.Unlock()
	b.watchers.open[w] = struct{}{}
	return w
}

// Changed returns a channel that gets a value when there may be something to Take, and is closed
// when the watch has ended.
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

// end ends w, which is in no list any more. It is called with the mutex held.
func (w *OpenWatch) end(err error) {
	w.over, w.err = true, err
	close(w.changed)
}

// Seq returns the sequence up to which everything has been told, for [OpenWatch.Resume].
func (w *OpenWatch) Seq() uint64 { return w.cursor }

// Resume makes w go on after sequence seq, up to which its watcher knows everything. It reports
// false, and does nothing, where that cannot be done without a gap.
func (w *OpenWatch) Resume(seq uint64) bool {
	w.board.mu.RLock()
	defer w.board.mu.RUnlock()
	if seq < w.board.changes.gone || seq > w.board.applied {
		return false
	}
	w.cursor = seq
	return true
}

// Page returns the next bookings that are open at time now, at most limit, longest waiting first,
// and whether there may be more. The pages together with the Take after them are the open bookings
// as they are then. One whose deadline has passed is not among them.
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

// Take returns what has changed since the last call, at most limit, and whether there may be more.
// Of what is open at present it is told as such, whatever happened to it in between; at time now
// overdue, it is not told.
//
// Errors: ErrSlow where there was more than is kept, ErrRestart.
func (w *OpenWatch) Take(now time.Time, limit int) (found []OpenChange, more bool, err error) {
	b := w.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := w.failure(); err != nil {
		return nil, false, err
	}
	log := &b.changes
	if w.cursor < log.gone {
		return nil, false, ErrSlow
	}
	for i := log.after(w.cursor); i < len(log.changes); i++ {
		if len(found) == limit {
			return found, true, nil
		}
		c := log.at(i)
		w.cursor = c.seq
		if told, ok := w.look(c, nanos(now)); ok {
			found = append(found, told)
		}
	}
	w.cursor = max(w.cursor, b.applied)
	return found, false, nil
}

// look returns what to tell of c, unless it is told already or is not so any more.
func (w *OpenWatch) look(c *openChange, now int64) (OpenChange, bool) {
	r := c.booking
	told := OpenChange{Seq: c.seq, Kind: booking.Kinds()[c.kind-1], At: timeOf(c.at), ID: r.id,
		Deadline: timeOf(r.deadline)}
	if before := r.releases(); slices.Contains(before[:min(int(c.releases), len(before))], w.rider) {
		return OpenChange{}, false // it was not open to this rider before, and is not now
	}
	open := r.state == openState && w.board.bookings[r.id] == r && !r.releasedBy(w.rider)
	if !told.Opened() {
		return told, !open // else it is open again, which comes later or was on a page
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

// restarted returns the log as it is when verdicts about the past have changed: nobody can go on
// from before.
func (l *openLog) restarted(applied uint64) openLog {
	return openLog{changes: l.changes, first: l.first, gone: max(l.gone, applied)}
}
