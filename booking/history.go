package booking

import (
	"iter"
	"slices"
)

// A passenger is a user and the user's bookings.
type passenger struct {
	id UserID
	history
}

// A driver is a rider and the bookings that the rider has, or had to their end. One that the rider released is not among them.
type driver struct {
	id RiderID
	history
}

// A history is the bookings of one person. What is under way is kept apart from what is over, and that by how it ended, so that a few are
// found among many without a look at the others. Each shelf is in the order of RequestedSeq.
type history struct {
	shelves [shelves][]*record
}

// A shelf is the place in a history of the bookings in some states.
type shelf int8

const (
	noShelf   shelf = -1
	underWay  shelf = 0 // open, accepted, arrived and started: few, as each of them lasts a while and no more
	completed shelf = 1
	cancelled shelf = 2
	expired   shelf = 3

	shelves = 4
)

// shelf returns where bookings in a state are kept.
func (c stateCode) shelf() shelf {
	switch c.state() {
	case StateOpen, StateAccepted, StateArrived, StateStarted:
		return underWay
	case StateCompleted:
		return completed
	case StateCancelled:
		return cancelled
	case StateExpired:
		return expired
	}
	return noShelf
}

// put adds r to a shelf.
func (h *history) put(s shelf, r *record) {
	if s != noShelf {
		h.shelves[s] = insert(h.shelves[s], r)
	}
}

// take removes r from the shelf on which it is.
func (h *history) take(s shelf, r *record) {
	if s == noShelf {
		return
	}
	rs := h.shelves[s]
	switch i := before(rs, r.requestedSeq); {
	case len(rs) == 1:
		rs = nil
	case i == 0: // as in Forget, where a person may have very many: nothing is moved
		rs[0] = nil
		rs = rs[1:]
	default:
		rs = slices.Delete(rs, i, i+1)
	}
	h.shelves[s] = rs
}

// empty reports whether there are no bookings.
func (h *history) empty() bool {
	for _, rs := range h.shelves {
		if len(rs) > 0 {
			return false
		}
	}
	return true
}

// newest yields the bookings that were requested before sequence seq (0: all of them) and that f lets pass, newest first. What it looks at
// besides those that it yields is under way, or was requested within clockSlack of f's bounds.
func (h *history) newest(seq uint64, f *filter) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		var rest [shelves][]*record
		for s, rs := range h.shelves {
			if f.wants(shelf(s)) {
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
func (h *history) page(limit int, seq uint64, only []Only) []Booking {
	if limit <= 0 {
		return nil
	}
	f := newFilter(only)
	var found []Booking
	for r := range h.newest(seq, &f) {
		if found = append(found, r.clone()); len(found) == limit {
			break
		}
	}
	return found
}
