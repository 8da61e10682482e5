package board

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/example/pillion/booking"
)

// clockSlack is how far the clocks of servers may differ that write the ledger one after another,
// in nanoseconds: by that much a later booking may have an earlier time.
const clockSlack = int64(time.Minute)

// An Filter narrows a list of bookings. Several together let pass what each of them does.
type Filter func(*filter)

// InState lets only bookings in one of the states pass.
func InState(states ...booking.State) Filter {
	var set uint8
	for _, s := range states {
		set |= 1 << codeOf(s)
	}
	return func(f *filter) { f.states &= set }
}

// Since lets only bookings pass that were requested at a time or after it.
func Since(t time.Time) Filter {
	return func(f *filter) { f.from = max(f.from, nanos(t)) }
}

// Until lets only bookings pass that were requested before a time.
func Until(t time.Time) Filter {
	return func(f *filter) { f.to = min(f.to, nanos(t)) }
}

// NotReleasedBy lets only bookings pass that a rider has not given back: a rider may not accept one
// of those again.
func NotReleasedBy(rider booking.RiderID) Filter {
	return func(f *filter) { f.rider = rider }
}

// A filter is what several Only come to.
type filter struct {
	states uint8 // a bit for each stateCode
	// requestedAt in nanoseconds after 1970: at from or after it, before to
	from, to int64
	rider    booking.RiderID // has not released it; "": nobody is asked for
}

func newFilter(only []Filter) filter {
	f := filter{states: 0xff, to: math.MaxInt64}
	for _, o := range only {
		o(&f)
	}
	return f
}

// passes reports whether r is one of those that are wanted.
func (f *filter) passes(r *record) bool {
	return f.states&(1<<r.state) != 0 && r.requestedAt >= f.from && r.requestedAt < f.to && !r.releasedBy(f.rider)
}

// wants reports whether there may be wanted ones on a shelf.
func (f *filter) wants(s stateBucket) bool {
	for c := range stateCode(8) {
		if f.states&(1<<c) != 0 && c.bucket() == s {
			return true
		}
	}
	return false
}

// until returns the beginning of rs in which those that are wanted are: before sequence seq, unless
// that is 0, and before f.to. Times follow the order of the ledger but for clockSlack, so that far
// behind f.to is the cut.
func (f *filter) until(rs []*record, seq uint64) []*record {
	if seq != 0 {
		rs = rs[:before(rs, seq)]
	}
	if f.to > math.MaxInt64-clockSlack {
		return rs
	}
	end, _ := slices.BinarySearchFunc(rs, f.to+clockSlack, func(r *record,
		t int64) int {
		return cmp.Compare(r.requestedAt, t)
	})
	return rs[:end]
}

// tooOld reports whether neither r nor anything that was requested before it is wanted.
func (f *filter) tooOld(r *record) bool { return r.requestedAt < f.from-clockSlack }
