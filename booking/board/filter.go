package board

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/example/pillion/booking"
)

// clockSlack is how far the clocks of the servers that write the ledger may differ, in nanoseconds.
// A later booking may have an earlier time by that much.
const clockSlack = int64(time.Minute)

// A Filter narrows a list of bookings. A list has the bookings that pass all its filters.
type Filter func(*filter)

// InState passes bookings in one of the states.
func InState(states ...booking.State) Filter {
	var set uint8
	for _, s := range states {
		set |= 1 << codeOf(s)
	}
	return func(f *filter) { f.states &= set }
}

// Since passes bookings that were requested at time t or later.
func Since(t time.Time) Filter {
	return func(f *filter) { f.from = max(f.from, nanos(t)) }
}

// Until passes bookings that were requested before time t.
func Until(t time.Time) Filter {
	return func(f *filter) { f.to = min(f.to, nanos(t)) }
}

// NotReleasedBy passes bookings that a rider has not released, and so may accept.
func NotReleasedBy(rider booking.RiderID) Filter {
	return func(f *filter) { f.rider = rider }
}

// A filter is the conjunction of several Filters.
type filter struct {
	states   uint8           // a bit for each stateCode
	from, to int64           // bounds of requestedAt: from is inclusive, to exclusive
	rider    booking.RiderID // has not released the booking; "": any
}

func newFilter(filters []Filter) filter {
	f := filter{states: 0xff, to: math.MaxInt64}
	for _, apply := range filters {
		apply(&f)
	}
	return f
}

// passes reports whether r passes the filter.
func (f *filter) passes(r *record) bool {
	return f.states&(1<<r.state) != 0 && r.requestedAt >= f.from && r.requestedAt < f.to && !r.releasedBy(f.rider)
}

// wants reports whether bookings in bucket s may pass.
func (f *filter) wants(s stateBucket) bool {
	for c := range stateCode(8) {
		if f.states&(1<<c) != 0 && c.bucket() == s {
			return true
		}
	}
	return false
}

// until returns the prefix of rs with the bookings that may pass: those before sequence seq, unless
// it is 0, and before f.to. Times increase with sequences up to clockSlack, so the prefix ends that
// much after f.to.
func (f *filter) until(rs []*record, seq uint64) []*record {
	if seq != 0 {
		rs = rs[:before(rs, seq)]
	}
	if f.to > math.MaxInt64-clockSlack {
		return rs
	}
	end, _ := slices.BinarySearchFunc(
		rs, f.to+clockSlack, func(r *record, t int64) int { return cmp.Compare(r.requestedAt, t) },
	)
	return rs[:end]
}

// newest yields the bookings in rs that may pass, newest first, until no others may.
func (f *filter) newest(rs []*record, seq uint64) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, r := range slices.Backward(f.until(rs, seq)) {
			if f.tooOld(r) || !yield(r) {
				return
			}
		}
	}
}

// tooOld reports whether neither r nor any booking before it passes.
func (f *filter) tooOld(r *record) bool { return r.requestedAt < f.from-clockSlack }
