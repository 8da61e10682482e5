// Package board is the read model (projection) of all bookings: a [Board] lists and finds bookings,
// and tells watchers what changes.
//
// Call [New], feed the board with every verified event in the ledger's order by Board.Apply, and
// read it from any number of goroutines. A board holds a few hundred bytes for each booking. It
// decides nothing, and it may be behind the ledger: Board.Await returns when it has caught up.
// Board.Capture and [Loading] encode and decode it for snapshots.
package board

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/example/pillion/booking"
)

// A Board shows where all bookings stand. It is a read model: one reader feeds it with what the
// ledger stored, in the ledger's order and with every event verified, and any number of others look
// at it meanwhile. It holds a few hundred bytes a booking.
//
// A Board decides nothing. It may be behind the ledger; Await says when it is not.
type Board struct {
	mu sync.RWMutex
	contents

	capture  *Capture // that is under way, or nil
	progress progress
	watchers *watchers
}

// contents is what a Board knows.
type contents struct {
	bookings   map[booking.ID]*record
	refusals   map[booking.ID]*booking.Refusals // of the few threads that have any
	users      map[booking.UserID]*userIndex    // who has bookings
	riders     map[booking.RiderID]*riderIndex  // who has bookings
	open       openIndex
	openPlaces openPlaces           // of the open ones
	enRoute    map[*record]struct{} // those whose rider is on the way to the pickup
	oldest     []*record            // all bookings by RequestedSeq
	changes    openLog
	applied    uint64 // Seq of the last event that was applied

	remaining int // messages that all of them need until they are over
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

// Become takes over what another board knows, all at once, and what it has been advanced to. It is
// for a board that was read anew because verdicts have changed. The other one must know as much as
// b, at least, and not be used any more. All watches of b end with ErrRestart.
func (b *Board) Become(other *Board) {
	b.mu.Lock()
	b.contents, b.capture = other.contents, nil
	b.changes = b.changes.restarted(b.applied)
	// before anything else can be applied, so that nobody is told of the new board on top of the
	// old one
	b.watchers.restart()
	b.mu.Unlock()
	b.Advance(other.Seq())
}

// Apply applies the next verified event. On error nothing is changed. Errors: those of
// [EventSequencer.Apply].
func (b *Board) Apply(e booking.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, known := b.bookings[e.Booking]
	t := booking.EventSequencer{Refusals: b.refusals[e.Booking]}
	if known {
		t.Booking = r.booking()
	}
	marked := t.Refusals
	if err := t.Apply(e); err != nil {
		if t.Refusals != marked {
			b.refusals[booking.ID(strings.Clone(string(e.Booking)))] = t.Refusals
		}
		return err
	}
	if !known {
		r = b.add(&t.Booking)
	}
	before := r.state
	b.capture.keep(r)
	if r.state == openState {
		b.close(r)
	}
	was, had := r.state.bucket(), r.rider
	if known {
		b.remaining -= r.remaining()
	}
	r.update(&t.Booking, b.rider(t.Booking.Rider))
	b.remaining += r.remaining()
	if r.state == openState {
		b.offer(r)
	}
	b.reindex(r, was, had)
	b.trackEnRoute(r)
	if b.note(&e, r, before) {
		b.watchers.wake()
	}
	b.watchers.tell(&e, r)
	return nil
}

// reindex moves a booking that has changed to where it belongs in the histories of its user and its
// rider. Before, it was on the shelf was, and its rider was had.
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
	b.dropIfEmpty(had)
}

// dropIfEmpty drops a rider without bookings, and does nothing about any other.
func (b *Board) dropIfEmpty(d *riderIndex) {
	if d != nil && d.empty() {
		delete(b.riders, d.id)
	}
}

// trackEnRoute notes whether a booking's rider is on the way to the pickup.
func (b *Board) trackEnRoute(r *record) {
	if r.state == acceptedState {
		b.enRoute[r] = struct{}{}
	} else {
		delete(b.enRoute, r)
	}
}

// offer puts a booking on the lists of open ones.
func (b *Board) offer(r *record) {
	b.open.add(r)
	b.openPlaces.add(r)
}

// close takes a booking off the lists of open ones, before it changes.
func (b *Board) close(r *record) {
	b.open.remove(r)
	b.openPlaces.remove(r)
}

// Refuse says that the message with a sequence, on the position (n, k) of a booking, was refused.
func (b *Board) Refuse(id booking.ID, n int, k booking.Kind, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := booking.EventSequencer{Refusals: b.refusals[id]}
	if r, known := b.bookings[id]; known {
		t.Booking.Version = int(r.version)
	}
	had := t.Refusals
	t.Refuse(n, k, seq)
	if t.Refusals != had {
		b.refusals[booking.ID(strings.Clone(string(id)))] = t.Refusals
	}
}

// add makes the record of a new booking. Ids are cloned: the ones in an event are often parts of
// longer strings.
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

// rider returns a rider, who may be new to the board, or nil where there is no id.
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

// insert adds r to a slice in the order of RequestedSeq. New bookings come last, so that it
// appends.
func insert(rs []*record, r *record) []*record {
	if len(rs) == 0 || rs[len(rs)-1].requestedSeq < r.requestedSeq {
		return append(rs, r)
	}
	return slices.Insert(rs, before(rs, r.requestedSeq), r)
}

// before returns how many of rs were requested before sequence seq.
func before(rs []*record, seq uint64) int {
	i, _ := slices.BinarySearchFunc(rs, seq, func(r *record,
		seq uint64) int {
		return cmp.Compare(r.requestedSeq, seq)
	})
	return i
}

// Forget drops the bookings that were requested before sequence first, which is the first that the
// ledger still has: their beginning has aged, and a reader that starts now would not know them. It
// drops what refused messages have left behind, too, once they have aged. It returns how many
// bookings it has dropped.
func (b *Board) Forget(first uint64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := before(b.oldest, first)
	for _, r := range b.oldest[:n] {
		if r.state == openState {
			b.close(r)
		}
		delete(b.bookings, r.id)
		b.remaining -= r.remaining()
		if r.seq >= first { // the rest of its events, which are to be passed over
			b.ageAfter(r)
		}
		b.watchers.forget(r.id)
		delete(b.enRoute, r)
		if r.user.take(r.state.bucket(), r); r.user.empty() {
			delete(b.users, r.user.id)
		}
		if r.rider != nil {
			r.rider.take(r.state.bucket(), r)
			b.dropIfEmpty(r.rider)
		}
	}
	b.oldest = slices.Delete(b.oldest, 0, n)
	for id, m := range b.refusals {
		if !m.Forget(first) {
			delete(b.refusals, id)
		}
	}
	return n
}

// ageAfter makes of a booking that is dropped what a reader would make of the rest of its events.
func (b *Board) ageAfter(r *record) {
	m := b.refusals[r.id]
	if m == nil {
		m = new(booking.Refusals)
		b.refusals[r.id] = m
	}
	m.Age(r.seq)
}

// Get returns a booking, and whether the board knows it.
func (b *Board) Get(id booking.ID) (booking.Booking, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.bookings[id]
	if !ok {
		return booking.Booking{}, false
	}
	return r.clone(), true
}

// LastSeq returns the sequence of the newest event of a booking on the board, or 0 where the board
// does not know the booking.
func (b *Board) LastSeq(id booking.ID) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if r, ok := b.bookings[id]; ok {
		return r.seq
	}
	return 0
}

// Len returns how many bookings the board knows.
func (b *Board) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.bookings)
}

// Advance says that every message up to sequence seq has been applied or refused. It wakes who
// awaits that.
func (b *Board) Advance(seq uint64) { b.progress.advance(seq) }

// Seq returns the sequence up to which the board knows everything.
func (b *Board) Seq() uint64 { return b.progress.now() }

// Await returns nil once the board knows everything up to sequence seq, or ctx's error.
func (b *Board) Await(ctx context.Context, seq uint64) error { return b.progress.await(ctx, seq) }

// Remaining returns how many messages all bookings of the board need until they are over, as
// [booking.Booking.Remaining] counts them.
func (b *Board) Remaining() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.remaining
}

// remaining is [booking.Booking.Remaining] of a record.
func (r *record) remaining() int {
	b := booking.Booking{State: r.state.state()}
	if r.rare != nil {
		b.ReleasedBy, b.WrongCodes = r.rare.releasedBy, r.rare.wrongCodes
	}
	return b.Remaining()
}
