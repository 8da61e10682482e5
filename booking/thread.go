package booking

import (
	"slices"
	"sort"
)

// A Thread is one booking's fold with positions. Every event of a booking has a position of its own, its (N, Kind): N is one more
// than that of the last event that was applied, or where refused messages of the same kind sit there, the next after them. So a
// forgery that was stored is in nobody's way. The zero Thread is ready for use; make copies with Clone.
type Thread struct {
	Booking Booking
	marks   *marks // nil for the thread of an honest ledger
}

// marks are what a thread knows besides its booking. They say which messages they come from, for they are to be gone when those are.
type marks struct {
	taken []uint64 // positions of refused messages, in ascending order; see place
	seqs  []uint64 // the sequences of those messages, in the same order; 0 where nobody said
	aged  uint64   // the beginning of the history is gone; sequence of the last message that tells; 0: it is not
}

// Apply applies an event that stands in the ledger after all those applied or refused before. On error the booking is unchanged.
//
// Errors: those of [Booking.Apply]; ErrPosition where e is not at the next position of its kind; ErrAged where e is not the first
// and the first has never been seen. A history that has lost its beginning does not get another: from then on everything is
// ErrAged.
func (t *Thread) Apply(e Event) error {
	if t.aged() {
		t.marks.age(e.Seq)
		return ErrAged
	}
	if e.N != t.Next(e.Kind) {
		switch {
		case t.Booking.State == StateNone && e.N > 1:
			t.mark().age(e.Seq)
			return ErrAged
		case t.Booking.has(e.ID, fingerprint(e.ID)):
			return ErrDuplicate
		}
		return ErrPosition
	}
	next, err := t.Booking.Apply(e)
	if err != nil {
		return err
	}
	t.Booking = next
	return nil
}

// Refuse says that a refused message sits on the position (n, k). What cannot be a position is disregarded.
func (t *Thread) Refuse(n int, k Kind) { t.refuse(n, k, 0) }

func (t *Thread) refuse(n int, k Kind, seq uint64) {
	if n > t.Booking.Version && n <= maxPosition && k.Valid() {
		t.mark().take(place(n, k), seq)
	}
}

// Next returns the N of the next event of kind k.
func (t *Thread) Next(k Kind) int {
	n := t.Booking.Version + 1
	if t.marks == nil {
		return n
	}
	return n + t.marks.run(place(n, k))
}

// Clone returns a thread that can change without changing t.
func (t *Thread) Clone() Thread {
	c := *t
	if t.marks != nil {
		c.marks = t.marks.clone()
	}
	return c
}

func (t *Thread) aged() bool { return t.marks != nil && t.marks.aged > 0 }

func (t *Thread) mark() *marks {
	if t.marks == nil {
		t.marks = new(marks)
	}
	return t.marks
}

// maxPosition is the greatest N that can be marked. To make an event come after it would take as many refused messages.
const maxPosition = 1<<56 - 1

// place is a position as one number: positions of a kind follow each other.
func place(n int, k Kind) uint64 { return k.index()<<56 | uint64(n) }

func (m *marks) take(p, seq uint64) {
	i, found := slices.BinarySearch(m.taken, p)
	if found {
		m.seqs[i] = max(m.seqs[i], seq)
		return
	}
	m.taken, m.seqs = slices.Insert(m.taken, i, p), slices.Insert(m.seqs, i, seq)
}

// age says that the beginning is gone, as the message with a sequence tells.
func (m *marks) age(seq uint64) { m.aged = max(m.aged, seq, 1) }

func (m *marks) clone() *marks {
	return &marks{taken: slices.Clone(m.taken), seqs: slices.Clone(m.seqs), aged: m.aged}
}

// forget drops what messages before sequence first told, and reports whether anything is left.
func (m *marks) forget(first uint64) bool {
	if m.aged < first {
		m.aged = 0
	}
	if slices.ContainsFunc(m.seqs, func(s uint64) bool { return s < first }) {
		kept := 0
		for i, s := range m.seqs {
			if s >= first {
				m.taken[kept], m.seqs[kept] = m.taken[i], s
				kept++
			}
		}
		m.taken, m.seqs = m.taken[:kept], m.seqs[:kept]
	}
	return m.aged > 0 || len(m.taken) > 0
}

// run returns how many positions are taken from p on without a gap. It does not count them one by one: a thousand forgeries cost
// ten steps.
func (m *marks) run(p uint64) int {
	i, found := slices.BinarySearch(m.taken, p)
	if !found {
		return 0
	}
	rest := m.taken[i:]
	return sort.Search(len(rest), func(j int) bool { return rest[j] != p+uint64(j) })
}
