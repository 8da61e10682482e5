package booking

import (
	"slices"
	"sort"
)

// A EventSequencer is one booking's fold with positions. Every event of a booking has a position of its own, its (N, Kind): N is one more
// than that of the last event that was applied, or where refused messages of the same kind sit there, the next after them. So a
// forgery that was stored is in nobody's way. The zero EventSequencer is ready for use; make copies with Clone.
type EventSequencer struct {
	Booking  Booking
	Refusals *Refusals // nil for the thread of an honest ledger
}

// Refusals are what a thread knows besides its booking. They say which messages they come from, for they are to be gone when those are.
type Refusals struct {
	Positions []uint64 // positions of refused messages, in ascending order; see place
	Sequences []uint64 // the sequences of those messages, in the same order; 0 where nobody said
	AgedAt    uint64   // the beginning of the history is gone; sequence of the last message that tells; 0: it is not
}

// Apply applies an event that stands in the ledger after all those applied or refused before. On error the booking is unchanged.
//
// Errors: those of [Booking.Apply]; ErrPosition where e is not at the next position of its kind; ErrAged where e is not the first
// and the first has never been seen. A history that has lost its beginning does not get another: from then on everything is
// ErrAged.
func (t *EventSequencer) Apply(e Event) error {
	if t.aged() {
		t.Refusals.Age(e.Seq)
		return ErrAged
	}
	if e.N != t.Next(e.Kind) {
		switch {
		case t.Booking.State == StateNone && e.N > 1:
			t.mark().Age(e.Seq)
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

// Refuse notes that the refused message with a sequence occupies the position (n, k). The sequence may be 0, where it does not
// matter. It ignores what cannot be a position.
func (t *EventSequencer) Refuse(n int, k Kind, seq uint64) {
	if n > t.Booking.Version && n <= maxPosition && k.Valid() {
		t.mark().take(positionKey(n, k), seq)
	}
}

// Next returns the N of the next event of kind k.
func (t *EventSequencer) Next(k Kind) int {
	n := t.Booking.Version + 1
	if t.Refusals == nil {
		return n
	}
	return n + t.Refusals.run(positionKey(n, k))
}

// Clone returns a thread that can change without changing t.
func (t *EventSequencer) Clone() EventSequencer {
	c := *t
	if t.Refusals != nil {
		c.Refusals = t.Refusals.Clone()
	}
	return c
}

func (t *EventSequencer) aged() bool { return t.Refusals != nil && t.Refusals.AgedAt > 0 }

func (t *EventSequencer) mark() *Refusals {
	if t.Refusals == nil {
		t.Refusals = new(Refusals)
	}
	return t.Refusals
}

// maxPosition is the greatest N that can be marked. To make an event come after it would take as many refused messages.
const maxPosition = 1<<56 - 1

// positionKey is a position as one number: positions of a kind follow each other.
func positionKey(n int, k Kind) uint64 { return k.Index()<<56 | uint64(n) }

func (m *Refusals) take(p, seq uint64) {
	i, found := slices.BinarySearch(m.Positions, p)
	if found {
		m.Sequences[i] = max(m.Sequences[i], seq)
		return
	}
	m.Positions, m.Sequences = slices.Insert(m.Positions, i, p), slices.Insert(m.Sequences, i, seq)
}

// Age says that the beginning is gone, as the message with a sequence tells.
func (m *Refusals) Age(seq uint64) { m.AgedAt = max(m.AgedAt, seq, 1) }

// Clone returns refusals that can change without changing m.
func (m *Refusals) Clone() *Refusals {
	return &Refusals{Positions: slices.Clone(m.Positions), Sequences: slices.Clone(m.Sequences), AgedAt: m.AgedAt}
}

// Forget drops what messages before sequence first told, and reports whether anything is left.
func (m *Refusals) Forget(first uint64) bool {
	if m.AgedAt < first {
		m.AgedAt = 0
	}
	if slices.ContainsFunc(m.Sequences, func(s uint64) bool { return s < first }) {
		kept := 0
		for i, s := range m.Sequences {
			if s >= first {
				m.Positions[kept], m.Sequences[kept] = m.Positions[i], s
				kept++
			}
		}
		m.Positions, m.Sequences = m.Positions[:kept], m.Sequences[:kept]
	}
	return m.AgedAt > 0 || len(m.Positions) > 0
}

// run returns how many positions are taken from p on without a gap. It does not count them one by one: a thousand forgeries cost
// ten steps.
func (m *Refusals) run(p uint64) int {
	i, found := slices.BinarySearch(m.Positions, p)
	if !found {
		return 0
	}
	rest := m.Positions[i:]
	return sort.Search(len(rest), func(j int) bool { return rest[j] != p+uint64(j) })
}
