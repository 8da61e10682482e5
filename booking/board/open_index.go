package board

import (
	"iter"

	"github.com/tidwall/btree"
)

// An openIndex holds the open bookings in the order in which they opened. The zero openIndex is
// empty.
type openIndex struct{ bySeq btree.Map[uint64, waiting] } // by OpenedSeq

type waiting struct {
	deadline int64 // nanoseconds after 1970
	record   *record
}

func (x *openIndex) add(r *record) { x.bySeq.Set(r.openedSeq, waiting{r.deadline, r}) }

// remove removes a booking. Call it before the booking changes.
func (x *openIndex) remove(r *record) { x.bySeq.Delete(r.openedSeq) }

// after yields the bookings that opened after sequence seq and are not overdue at time now, longest
// waiting first.
func (x *openIndex) after(now int64, seq uint64) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		x.bySeq.Ascend(seq, func(at uint64, w waiting) bool {
			return at == seq || w.deadline < now || yield(w.record)
		})
	}
}

// overdue yields the bookings whose deadline had passed at time now.
func (x *openIndex) overdue(now int64) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		x.bySeq.Scan(func(_ uint64, w waiting) bool { return w.deadline > now || yield(w.record) })
	}
}
