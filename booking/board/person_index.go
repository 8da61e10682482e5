package board

import (
	"iter"
	"slices"

	"github.com/example/pillion/booking"
)

// A userIndex is a user and the user's bookings.
type userIndex struct {
	id booking.UserID
	personIndex
}

// A riderIndex is a rider and the bookings that the rider has, or had to their end. One that the
// rider released is not among them.
type riderIndex struct {
	id booking.RiderID
	personIndex
}

// A personIndex is the bookings of one person. What is under way is kept apart from what is over,
// and that by how it ended, so that a few are found among many without a look at the others. Each
// shelf is in the order of RequestedSeq.
type personIndex struct {
	buckets [stateBuckets][]*record
}

// A stateBucket is the place in a history of the bookings in some states.
type stateBucket int8

const (
	noBucket stateBucket = -1
	// open, accepted, arrived and started: few, as each of them lasts a while and no more
	underWay  stateBucket = 0
	completed stateBucket = 1
	cancelled stateBucket = 2
	expired   stateBucket = 3

	stateBuckets = 4
)

// bucket returns where bookings in a state are kept.
func (c stateCode) bucket() stateBucket {
	switch c.state() {
	case booking.StateOpen, booking.StateAccepted, booking.StateArrived, booking.StateStarted:
		return underWay
	case booking.StateCompleted:
		return completed
	case booking.StateCancelled:
		return cancelled
	case booking.StateExpired:
		return expired
	}
	return noBucket
}

// put adds r to a shelf.
func (h *personIndex) put(s stateBucket, r *record) {
	if s != noBucket {
		h.buckets[s] = insert(h.buckets[s], r)
	}
}

// take removes r from the shelf on which it is.
func (h *personIndex) take(s stateBucket, r *record) {
	if s == noBucket {
		return
	}
	rs := h.buckets[s]
	switch i := before(rs, r.requestedSeq); {
	case len(rs) == 1:
		rs = nil
	case i == 0: // as in Forget, where a person may have very many: nothing is moved
		rs[0] = nil
		rs = rs[1:]
	default:
		rs = slices.Delete(rs, i, i+1)
	}
	h.buckets[s] = rs
}

// empty reports whether there are no bookings.
func (h *personIndex) empty() bool {
	for _, rs := range h.buckets {
		if len(rs) > 0 {
			return false
		}
	}
	return true
}

// newest yields the bookings that were requested before sequence seq (0: all of them) and that f
// lets pass, newest first. What it looks at besides those that it yields is under way, or was
// requested within clockSlack of f's bounds.
func (h *personIndex) newest(seq uint64, f *filter) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		var rest [stateBuckets][]*record
		for s, rs := range h.buckets {
			if f.wants(stateBucket(s)) {
				rest[s] = f.until(rs, seq)
			}
		}
		for {
			var last *record
			from := 0
			for s, rs := range rest {
				if n := len(rs); n > 0 && (last == nil || rs[n-1].requestedSeq > last.requestedSeq) {
					last, from = rs[n-1], s
				}
			}
			if last == nil || f.tooOld(last) {
				return
			}
			rest[from] = rest[from][:len(rest[from])-1]
			if f.passes(last) && !yield(last) {
				return
			}
		}
	}
}

// page returns up to limit bookings, newest first.
func (h *personIndex) page(limit int, seq uint64, only []Filter) []booking.Booking {
	if limit <= 0 {
		return nil
	}
	f := newFilter(only)
	var found []booking.Booking
	for r := range h.newest(seq, &f) {
		if found = append(found, r.clone()); len(found) == limit {
			break
		}
	}
	return found
}
