package board

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/example/pillion/booking"
)

// Open returns up to limit bookings that wait for a rider at time now, longest waiting first: those
// that opened after sequence after, which is 0 or the OpenedSeq of the last one of the page before.
// One whose deadline has passed is not among them, nor is one that only does not let pass.
func (b *Board) Open(now time.Time, limit int, after uint64, only ...Filter) []booking.Booking {
	if limit <= 0 {
		return nil
	}
	f := newFilter(only)
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := make([]booking.Booking, 0, min(limit, b.open.size))
	for r := range b.open.after(nanos(now), after) {
		if !f.passes(r) {
			continue
		}
		if found = append(found, r.clone()); len(found) == limit {
			break
		}
	}
	return found
}

// Overdue returns the bookings that wait for a rider although their deadline had passed at a time,
// in the order in which they opened.
func (b *Board) Overdue(at time.Time) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []booking.Booking
	for r := range b.open.overdue(nanos(at)) {
		found = append(found, r.clone())
	}
	return found
}

// EnRoute returns the bookings that were accepted at a time or before it, and whose rider has not
// arrived, in the order in which they were accepted.
func (b *Board) EnRoute(by time.Time) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []booking.Booking
	for r := range b.enRoute {
		if r.updatedAt <= nanos(by) { // nothing happens to one in this state that leaves it there
			found = append(found, r.clone())
		}
	}
	slices.SortFunc(found, func(x, y booking.Booking) int { return cmp.Compare(x.Seq, y.Seq) })
	return found
}

// Newest returns up to limit bookings that all of only let pass, newest first: those that were
// requested before sequence before, which is 0 or the RequestedSeq of the last one of the page
// before. It looks at all that are newer than the last one it returns.
func (b *Board) Newest(limit int, before uint64, only ...Filter) []booking.Booking {
	if limit <= 0 {
		return nil
	}
	f := newFilter(only)
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []booking.Booking
	for _, r := range slices.Backward(f.until(b.oldest, before)) {
		if f.tooOld(r) {
			break
		}
		if !f.passes(r) {
			continue
		}
		if found = append(found, r.clone()); len(found) == limit {
			break
		}
	}
	return found
}

// OfUser returns up to limit bookings of one user that pass only, newest first: those that were
// requested before sequence before, which is 0 for the newest or the RequestedSeq of the last one
// of the page before. Fewer than limit means that there are no more.
func (b *Board) OfUser(u booking.UserID, limit int, before uint64, only ...Filter) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if user, ok := b.users[u]; ok {
		return user.page(limit, before, only)
	}
	return nil
}

// OfRider is OfUser for the bookings that a rider has, or had to their end. One that the rider has
// released is not among them: whoever released a booking is no party of it any more.
func (b *Board) OfRider(id booking.RiderID, limit int, before uint64, only ...Filter) []booking.Booking {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if d, ok := b.riders[id]; ok {
		return d.page(limit, before, only)
	}
	return nil
}

// Active returns the bookings that a rider is under way for: accepted, arrived or started. Newest
// first; one at most, where nothing went wrong.
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

// Unfinished returns the bookings of a user or a rider that are not over, in no particular order.
func (b *Board) Unfinished(who booking.Actor) []booking.Booking {
	if who.Role == booking.Rider {
		return b.Active(booking.RiderID(who.ID))
	}
	return b.OfUser(booking.UserID(who.ID), math.MaxInt, 0,
		InState(booking.StateOpen, booking.StateAccepted, booking.StateArrived, booking.StateStarted))
}

// Busy reports whether a rider is under way for a booking. It costs a look into a map.
func (b *Board) Busy(id booking.RiderID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, ok := b.riders[id]
	return ok && len(d.buckets[underWay]) > 0
}

// Heading returns where a rider is to come. ok is false for a rider who is not on the way, or to no
// known place. It costs a look into a map.
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
