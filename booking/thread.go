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

// marks are what a thread knows besides its booking.
type marks struct {
	taken []uint64 // positions of refused messages, in ascending order; see place
	aged  bool     // the beginning of the history is gone
}

// Apply applies an event that stands in the ledger after all those applied or refused before. On error the booking is unchanged.
//
// Errors: those of [Booking.Apply]; ErrPosition where e is not at the next position of its kind; ErrAged where e is not the first
// and the first has never been seen. A history that has lost its beginning does not get another: from then on everything is
// ErrAged.
func (t *Thread) Apply(e Event) error {
	if t.aged() {
		return ErrAged
	}
	if e.N != t.Next(e.Kind) {
		switch {
		case t.Booking.State == StateNone && e.N > 1:
			t.mark().aged = true
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
func (t *Thread) Refuse(n int, k Kind) {
	if n > t.Booking.Version && n <= maxPosition && k.Valid() {
		t.mark().take(place(n, k))
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
		c.marks = &marks{taken: slices.Clone(t.marks.taken), aged: t.marks.aged}
	}
	return c
}

func (t *Thread) aged() bool { return t.marks != nil && t.marks.aged }

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

func (m *marks) take(p uint64) {
	if i, found := slices.BinarySearch(m.taken, p); !found {
		m.taken = slices.Insert(m.taken, i, p)
	}
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
