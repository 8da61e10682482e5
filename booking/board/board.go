// Package board is the read model (projection) of all bookings: a [Board] lists bookings and
// notifies watchers of changes.
//
// Call [New], pass every verified event in the ledger's order to [Board.Apply], and query the board
// from any number of goroutines. A board may be behind the ledger; [Board.Await] waits until it has
// caught up. It decides nothing, and takes a few hundred bytes for each booking. [Board.Capture]
// and [Loader] encode and decode it for snapshots.
package board

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/example/pillion/booking"
)

// A Board has the present state of all bookings. One goroutine applies the verified events of the
// ledger, in order. Any number of others may query the board meanwhile.
type Board struct {
	mu sync.RWMutex
	contents

	capture  *Capture // in progress, or nil
	progress progress
	watchers *watchers
}

// contents is the part of a Board that Become replaces.
type contents struct {
	bookings   map[booking.ID]*record
	refusals   map[booking.ID]*booking.Refusals // of the few bookings that have any
	users      map[booking.UserID]*userIndex    // users with bookings
	riders     map[booking.RiderID]*riderIndex  // riders with bookings
	open       openIndex
	openPlaces openPlaces           // the open bookings by pickup
	enRoute    map[*record]struct{} // bookings whose rider is on the way to the pickup
	oldest     []*record            // all bookings by RequestedSeq
	changes    openLog
	applied    uint64 // Seq of the last applied event

	remaining int // ledger messages that all bookings need until they are over
}

// New returns an empty board.
func New() *Board {
	return &Board{watchers: newWatchers(), contents: contents{
		bookings: make(map[booking.ID]*record),
		refusals: make(map[booking.ID]*booking.Refusals),
		users:    make(map[booking.UserID]*userIndex),
		riders:   make(map[booking.RiderID]*riderIndex),
		enRoute:  make(map[*record]struct{}),
	}}
}

// Become replaces the contents of b with those of another board, atomically, after the ledger was
// verified again. The other board must be at least as far as b, and must not be used any more. All
// watches of b end with ErrRestart.
func (b *Board) Become(other *Board) {
	b.mu.Lock()
	b.contents, b.capture = other.contents, nil
	b.changes = b.changes.restarted(b.applied)
	b.watchers.restart() // under the lock: no watch may see changes of both boards
	b.mu.Unlock()
	b.Advance(other.Seq())
}

// Apply applies the next verified event. On error the bookings do not change. Errors: those of
// [booking.EventSequencer.Apply].
func (b *Board) Apply(e booking.Event) error {
	_, _, err := b.Fold(e)
	return err
}

// Fold is Apply, and returns the booking before and after the event. Both share memory with the
// board; do not change them.
func (b *Board) Fold(e booking.Event) (before, after booking.Booking, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, known := b.bookings[e.Booking]
	s := booking.EventSequencer{Refusals: b.refusals[e.Booking]}
	if known {
		s.Booking = r.booking()
	}
	refusals := s.Refusals
	before = s.Booking
	if err := s.Apply(e); err != nil {
		if s.Refusals != refusals {
			b.refusals[booking.ID(strings.Clone(string(e.Booking)))] = s.Refusals
		}
		return before, before, err
	}
	if !known {
		r = b.add(&s.Booking)
	}
	wasState := r.state
	b.capture.keep(r)
	if r.state == openState {
		b.removeOpen(r)
	}
	was, had := r.state.bucket(), r.rider
	if known {
		b.remaining -= r.remaining()
	}
	r.update(&s.Booking, b.rider(s.Booking.Rider), e.Command)
	b.remaining += r.remaining()
	if r.state == openState {
		b.addOpen(r)
	}
	b.reindex(r, was, had)
	b.trackEnRoute(r)
	if b.note(&e, r, wasState) {
		b.watchers.wake()
	}
	b.watchers.notify(&e, r)
	return before, s.Booking, nil
}

// reindex moves a changed booking in the indexes of its user and its rider. Before the change it
// was in bucket was, and had the rider had.
func (b *Board) reindex(r *record, was stateBucket, had *riderIndex) {
	is := r.state.bucket()
	if is != was {
		r.user.take(was, r)
		r.user.put(is, r)
	}
	if is == was && r.rider == had {
		return
	}
	if had != nil {
		had.take(was, r)
	}
	if r.rider != nil {
		r.rider.put(is, r)
	}
	if had != nil && had != r.rider {
		had.lose(r)
	}
}

// leave removes a booking that is dropped from the indexes of its riders, and the indexes that are
// empty then.
func (b *Board) leave(r *record) {
	if r.rider != nil {
		r.rider.take(r.state.bucket(), r)
	}
	for _, id := range r.releases() {
		if x := b.riders[id]; x != nil { // nil: dropped, because the rider had lost it twice
			x.lost = slices.DeleteFunc(x.lost, func(l *record) bool { return l == r })
			b.dropIfEmpty(x)
		}
	}
	b.dropIfEmpty(r.rider)
}

// dropIfEmpty drops the index of a rider without bookings. x may be nil.
func (b *Board) dropIfEmpty(x *riderIndex) {
	if x != nil && x.empty() && len(x.lost) == 0 {
		delete(b.riders, x.id)
	}
}

// trackEnRoute updates enRoute for a booking.
func (b *Board) trackEnRoute(r *record) {
	if r.state == acceptedState {
		b.enRoute[r] = struct{}{}
	} else {
		delete(b.enRoute, r)
	}
}

// addOpen adds a booking to the indexes of open ones.
func (b *Board) addOpen(r *record) {
	b.open.add(r)
	b.openPlaces.add(r)
}

// removeOpen removes a booking from the indexes of open ones. Call it before the booking changes.
func (b *Board) removeOpen(r *record) {
	b.open.remove(r)
	b.openPlaces.remove(r)
}

// Refuse notes that the message at sequence seq, with position (n, k) of a booking, was refused.
func (b *Board) Refuse(id booking.ID, n int, k booking.Kind, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := booking.EventSequencer{Refusals: b.refusals[id]}
	if r, known := b.bookings[id]; known {
		s.Booking.Version = int(r.version)
	}
	had := s.Refusals
	s.Refuse(n, k, seq)
	if s.Refusals != had {
		b.refusals[booking.ID(strings.Clone(string(id)))] = s.Refusals
	}
}

// add adds a new booking. It clones ids, because those in an event are often parts of longer
// strings.
func (b *Board) add(x *booking.Booking) *record {
	user, ok := b.users[x.User]
	if !ok {
		user = &userIndex{id: booking.UserID(strings.Clone(string(x.User)))}
		b.users[user.id] = user
	}
	r := newRecord(x, user)
	b.bookings[r.id] = r
	b.oldest = insert(b.oldest, r)
	return r
}

// rider returns the index of a rider, which it creates if necessary. It returns nil for an empty
// id.
func (b *Board) rider(id booking.RiderID) *riderIndex {
	if id == "" {
		return nil
	}
	d, ok := b.riders[id]
	if !ok {
		d = &riderIndex{id: booking.RiderID(strings.Clone(string(id)))}
		b.riders[d.id] = d
	}
	return d
}

// Forget drops the bookings whose first event has aged out of the ledger, and refusals that have
// aged, as if the board had started now. first is the ledger's first sequence. Forget returns how
// many bookings it dropped.
func (b *Board) Forget(first uint64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := before(b.oldest, first)
	for _, r := range b.oldest[:n] {
		if r.state == openState {
			b.removeOpen(r)
		}
		delete(b.bookings, r.id)
		b.remaining -= r.remaining()
		if r.seq >= first { // later events of the booking may follow
			b.ageAfter(r)
		}
		b.watchers.forget(r.id)
		delete(b.enRoute, r)
		if r.user.take(r.state.bucket(), r); r.user.empty() {
			delete(b.users, r.user.id)
		}
		b.leave(r)
	}
	b.oldest = slices.Delete(b.oldest, 0, n)
	for id, m := range b.refusals {
		if !m.Forget(first) {
			delete(b.refusals, id)
		}
	}
	return n
}

// ageAfter leaves for a dropped booking what a new reader would have after its later events.
func (b *Board) ageAfter(r *record) {
	m := b.refusals[r.id]
	if m == nil {
		m = new(booking.Refusals)
		b.refusals[r.id] = m
	}
	m.Age(r.seq)
}

// Advance notes that every message up to sequence seq was applied or refused. It wakes those who
// await that.
func (b *Board) Advance(seq uint64) { b.progress.advance(seq) }

// Seq returns the sequence up to which the board is complete.
func (b *Board) Seq() uint64 { return b.progress.now() }

// Await waits until the board is complete up to sequence seq. It returns ctx's error if ctx ends
// first.
func (b *Board) Await(ctx context.Context, seq uint64) error { return b.progress.await(ctx, seq) }
