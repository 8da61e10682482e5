package board

import (
	"cmp"
	"iter"
	"slices"

	"github.com/example/pillion/booking"
)

// A userIndex holds the bookings of a user.
type userIndex struct {
	id booking.UserID
	personIndex
}

// A riderIndex holds the bookings that a rider has, or had to their end, and apart from them those
// that the rider lost.
type riderIndex struct {
	id booking.RiderID
	personIndex
	lost []*record // in no order
}

// lose adds a booking to those that the rider lost.
func (x *riderIndex) lose(r *record) {
	if !slices.Contains(x.lost, r) {
		x.lost = append(x.lost, r)
	}
}

// A personIndex holds the bookings of one person, in buckets by state, so a query reads only the
// buckets that it needs. Each bucket is in the order of RequestedSeq.
type personIndex struct {
	buckets [stateBuckets][]*record
}

// A stateBucket is a group of states.
type stateBucket int8

const (
	noBucket stateBucket = -1
	// open, accepted, arrived and started: few, because none of them lasts
	underWay  stateBucket = 0
	completed stateBucket = 1
	cancelled stateBucket = 2
	expired   stateBucket = 3

	stateBuckets = 4
)

// buckets has the bucket of each state, in the order of booking.States.
var buckets = [...]stateBucket{
	noBucket, underWay, underWay, underWay, underWay, completed, cancelled, expired,
}

func (c stateCode) bucket() stateBucket { return buckets[c] }

// put adds r to a bucket.
func (p *personIndex) put(s stateBucket, r *record) {
	if s != noBucket {
		p.buckets[s] = insert(p.buckets[s], r)
	}
}

// take removes r from its bucket.
func (p *personIndex) take(s stateBucket, r *record) {
	if s == noBucket {
		return
	}
	rs := p.buckets[s]
	switch i := before(rs, r.requestedSeq); {
	case len(rs) == 1:
		rs = nil
	case i == 0: // the case of Forget: no entries move
		rs[0] = nil
		rs = rs[1:]
	default:
		rs = slices.Delete(rs, i, i+1)
	}
	p.buckets[s] = rs
}

// empty reports whether the person has no bookings.
func (p *personIndex) empty() bool {
	for _, rs := range p.buckets {
		if len(rs) > 0 {
			return false
		}
	}
	return true
}

// newest yields the bookings that were requested before sequence seq (0: no bound) and may pass f,
// newest first. All other bookings that it reads are under way, or within clockSlack of f's bounds.
func (p *personIndex) newest(seq uint64, f *filter) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		var rest [stateBuckets][]*record
		for s, rs := range p.buckets {
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
			if !yield(last) {
				return
			}
		}
	}
}

// page returns up to limit bookings of newest.
func (p *personIndex) page(limit int, seq uint64, filters []Filter) []booking.Booking {
	f := newFilter(filters)
	return clones(p.newest(seq, &f), limit, &f)
}

// insert adds r to a slice in the order of RequestedSeq. A new booking is appended.
func insert(rs []*record, r *record) []*record {
	if len(rs) == 0 || rs[len(rs)-1].requestedSeq < r.requestedSeq {
		return append(rs, r)
	}
	return slices.Insert(rs, before(rs, r.requestedSeq), r)
}

// before returns the number of records in rs that were requested before sequence seq.
func before(rs []*record, seq uint64) int {
	i, _ := slices.BinarySearchFunc(
		rs, seq, func(r *record, seq uint64) int { return cmp.Compare(r.requestedSeq, seq) },
	)
	return i
}
