package board

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/example/pillion/booking"
)

// Get returns a booking, and whether the board has it.
func (b *Board) Get(id booking.ID) (booking.Booking, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.bookings[id]
	if !ok {
		return booking.Booking{}, false
	}
	return r.clone(), true
}

// AcceptedBy returns the booking that a rider accepted by a command, and whether there is one. The
// rider may have lost it since. It compares fingerprints, so only the booking's history proves it.
func (b *Board) AcceptedBy(rider booking.RiderID, c booking.CommandID) (booking.ID, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	x, ok := b.riders[rider]
	if !ok {
		return "", false
	}
	command := c.Fingerprint()
	for _, rs := range append(x.buckets[:], x.lost) {
		for _, r := range slices.Backward(rs) {
			if r.acceptedBy(rider, command) {
				return r.id, true
			}
		}
	}
	return "", false
}

// LastSeq returns the sequence of a booking's newest event on the board, or 0 for an unknown
// booking.
func (b *Board) LastSeq(id booking.ID) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if r, ok := b.bookings[id]; ok {
		return r.seq
	}
	return 0
}

// Open returns a page of up to limit bookings that are open at time now and pass the filters,
// longest waiting first. after is 0, or the OpenedSeq of the last booking on the page before. Open
// omits bookings whose deadline has passed.
func (b *Board) Open(now time.Time, limit int, after uint64, filters ...Filter) []booking.Booking {
	f := newFilter(filters)
	b.mu.RLock()
	defer b.mu.RUnlock()
	return clones(b.open.after(nanos(now), after), limit, &f)
}

// clones returns the first bookings that pass f, up to limit.
func clones(records iter.Seq[*record], limit int, f *filter) (found []booking.Booking) {
	for r := range records {
		if len(found) >= limit {
			break
		}
		if f.passes(r) {
			found = append(found, r.clone())
		}
	}
	return found
}

// Overdue returns the open bookings whose deadline had passed at time at, in the order in which
// they opened.
func (b *Board) Overdue(at time.Time) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	anything := newFilter(nil)
	return clones(b.open.overdue(nanos(at)), math.MaxInt, &anything)
}

// EnRoute returns the bookings that were accepted at time by or earlier, and whose rider has not
// arrived, in the order of their acceptance.
func (b *Board) EnRoute(by time.Time) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []booking.Booking
	for r := range b.enRoute {
		if r.updatedAt <= nanos(by) { // every later event would have changed the state
			found = append(found, r.clone())
		}
	}
	slices.SortFunc(found, func(x, y booking.Booking) int { return cmp.Compare(x.Seq, y.Seq) })
	return found
}

// Newest returns a page of up to limit bookings that pass the filters, newest first. before is 0,
// or the RequestedSeq of the last booking on the page before. Newest reads every booking that is
// newer than the last one it returns.
func (b *Board) Newest(limit int, before uint64, filters ...Filter) []booking.Booking {
	f := newFilter(filters)
	b.mu.RLock()
	defer b.mu.RUnlock()
	return clones(f.newest(b.oldest, before), limit, &f)
}

// OfUser is Newest for the bookings of one user, and reads only those. A page with fewer than limit
// bookings is the last one.
func (b *Board) OfUser(u booking.UserID, limit int, before uint64, filters ...Filter) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if user, ok := b.users[u]; ok {
		return user.page(limit, before, filters)
	}
	return nil
}

// OfRider is OfUser for the bookings that a rider has, or had to their end. It omits those that the
// rider lost, because the rider is no party to them any more.
func (b *Board) OfRider(id booking.RiderID, limit int, before uint64, filters ...Filter) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if d, ok := b.riders[id]; ok {
		return d.page(limit, before, filters)
	}
	return nil
}

// Active returns the bookings that a rider has accepted and that are not over, newest first.
// Normally there is at most one.
func (b *Board) Active(id booking.RiderID) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, ok := b.riders[id]
	if !ok {
		return nil
	}
	var found []booking.Booking
	for _, r := range slices.Backward(d.buckets[underWay]) {
		found = append(found, r.clone())
	}
	return found
}

// Unfinished returns the bookings of a user or a rider that are not over, newest first.
func (b *Board) Unfinished(who booking.Actor) []booking.Booking {
	if who.Role == booking.Rider {
		return b.Active(booking.RiderID(who.ID))
	}
	return b.OfUser(booking.UserID(who.ID), math.MaxInt, 0,
		InState(booking.StateOpen, booking.StateAccepted, booking.StateArrived, booking.StateStarted))
}

// Busy reports whether a rider has an accepted booking that is not over. It takes constant time.
func (b *Board) Busy(id booking.RiderID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, ok := b.riders[id]
	return ok && len(d.buckets[underWay]) > 0
}

// Heading returns the pickup that a rider is on the way to. ok is false if there is none. It takes
// constant time.
func (b *Board) Heading(id booking.RiderID) (h booking.Heading, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, known := b.riders[id]
	if !known {
		return booking.Heading{}, false
	}
	for _, r := range d.buckets[underWay] {
		if r.state == acceptedState && r.trip != nil {
			return booking.Heading{Pickup: r.trip.pickup, Seq: r.seq, Since: timeOf(r.updatedAt)}, true
		}
	}
	return booking.Heading{}, false
}

// Len returns the number of bookings on the board.
func (b *Board) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.bookings)
}

// Remaining returns the sum of [booking.Booking.Remaining] over all bookings.
func (b *Board) Remaining() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.remaining
}
