package board

import (
	"cmp"
	"iter"
	"slices"
)

// An openIndex holds the open bookings in the order in which they opened. It is a list of small
// chunks. Additions usually go to the last chunk, because sequences grow, and a removal moves few
// entries. Each chunk has its latest deadline, so queries skip whole chunks of overdue bookings.
type openIndex struct {
	chunks []*chunk
	size   int
}

type chunk struct {
	waiting []waiting
	latest  int64 // upper bound of the deadlines in the chunk
}

type waiting struct {
	seq      uint64 // OpenedSeq
	deadline int64  // nanoseconds after 1970
	record   *record
}

const chunkSize = 128

// find returns the index of the chunk that has, or would have, seq.
func (x *openIndex) find(seq uint64) int {
	i, _ := slices.BinarySearchFunc(x.chunks, seq, func(c *chunk, seq uint64) int {
		return cmp.Compare(c.waiting[len(c.waiting)-1].seq, seq)
	})
	return i
}

func (c *chunk) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(c.waiting, seq, func(w waiting, seq uint64) int { return cmp.Compare(w.seq, seq) })
}

func (x *openIndex) add(r *record) {
	w := waiting{r.openedSeq, r.deadline, r}
	i := x.find(w.seq)
	if i == len(x.chunks) && i > 0 && len(x.chunks[i-1].waiting) < chunkSize {
		i-- // the last chunk has room
	}
	if i == len(x.chunks) {
		x.chunks = append(x.chunks, &chunk{waiting: make([]waiting, 0, 8)})
	}
	c := x.chunks[i]
	at, _ := c.find(w.seq)
	c.waiting = slices.Insert(c.waiting, at, w)
	c.latest = max(c.latest, w.deadline)
	x.size++
}

// remove removes a booking. Call it before the booking changes.
func (x *openIndex) remove(r *record) {
	i := x.find(r.openedSeq)
	if i == len(x.chunks) {
		return
	}
	c := x.chunks[i]
	at, found := c.find(r.openedSeq)
	if !found {
		return
	}
	c.waiting = slices.Delete(c.waiting, at, at+1)
	x.size--
	switch {
	case len(c.waiting) == 0:
		x.chunks = slices.Delete(x.chunks, i, i+1)
	case i+1 < len(x.chunks) && len(c.waiting)+len(x.chunks[i+1].waiting) <= chunkSize/2:
		x.merge(i)
	case i > 0 && len(c.waiting)+len(x.chunks[i-1].waiting) <= chunkSize/2:
		x.merge(i - 1)
	}
}

// merge joins chunk i and the next one.
func (x *openIndex) merge(i int) {
	c, next := x.chunks[i], x.chunks[i+1]
	c.waiting = append(c.waiting, next.waiting...)
	c.latest = max(c.latest, next.latest)
	x.chunks = slices.Delete(x.chunks, i+1, i+2)
}

// after yields the bookings that opened after sequence seq and are not overdue at time now, longest
// waiting first.
func (x *openIndex) after(now int64, seq uint64) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, c := range x.chunks[x.find(seq):] {
			if c.latest < now {
				continue
			}
			for _, w := range c.waiting {
				if w.seq > seq && w.deadline >= now && !yield(w.record) {
					return
				}
			}
		}
	}
}

// overdue yields the bookings whose deadline had passed at time now.
func (x *openIndex) overdue(now int64) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, c := range x.chunks {
			for _, w := range c.waiting {
				if w.deadline <= now && !yield(w.record) {
					return
				}
			}
		}
	}
}
