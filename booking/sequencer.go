package booking

import (
	"slices"
	"sort"
)

// An EventSequencer applies the events of one booking in the ledger's order, and numbers them. Each
// event has a position, which is its (N, Kind). Its N is one more than that of the last applied
// event. If refused messages of the same kind occupy that position, the event gets the next free
// one, so a stored forgery blocks nothing.
//
// The zero EventSequencer is ready for use. Make copies with Clone.
type EventSequencer struct {
	Booking  Booking
	Refusals *Refusals // nil: no message was refused
}

// Refusals are what an EventSequencer remembers of messages that it did not apply. It forgets them
// when the messages age out of the ledger.
type Refusals struct {
	Positions []uint64 // positions of refused messages, ascending; see positionKey
	Sequences []uint64 // ledger sequences of those messages, in the same order; 0: unknown
	// sequence of the last message that showed that the first events have aged; 0: none
	AgedAt uint64
}

// Apply applies the next event of the ledger. On error the booking does not change.
//
// Errors: those of [Booking.Apply]; ErrPosition if e is not at the next position of its kind;
// ErrAged if e is not a booking's first event and the first is unknown. From then on all events of
// the booking yield ErrAged.
func (s *EventSequencer) Apply(e Event) error {
	if s.aged() {
		s.Refusals.Age(e.Seq)
		return ErrAged
	}
	if e.N != s.Next(e.Kind) {
		switch {
		case s.Booking.State == StateNone && e.N > 1:
			s.refusals().Age(e.Seq)
			return ErrAged
		case s.Booking.has(e.ID, fingerprint(e.ID)):
			return ErrDuplicate
		}
		return ErrPosition
	}
	next, err := s.Booking.Apply(e)
	if err != nil {
		return err
	}
	s.Booking = next
	return nil
}

// Refuse notes that a refused message occupies the position (n, k). seq is its ledger sequence, or
// 0 if that does not matter. Refuse ignores an invalid position.
func (s *EventSequencer) Refuse(n int, k Kind, seq uint64) {
	if n > s.Booking.Version && n <= maxPosition && k.Valid() {
		s.refusals().add(positionKey(n, k), seq)
	}
}

// Next returns the N of the next event of kind k.
func (s *EventSequencer) Next(k Kind) int {
	n := s.Booking.Version + 1
	if s.Refusals == nil {
		return n
	}
	return n + s.Refusals.runLength(positionKey(n, k))
}

// Clone returns a sequencer that can change without changing s.
func (s *EventSequencer) Clone() EventSequencer {
	c := *s
	if s.Refusals != nil {
		c.Refusals = s.Refusals.Clone()
	}
	return c
}

func (s *EventSequencer) aged() bool { return s.Refusals != nil && s.Refusals.AgedAt > 0 }

func (s *EventSequencer) refusals() *Refusals {
	if s.Refusals == nil {
		s.Refusals = new(Refusals)
	}
	return s.Refusals
}

// maxPosition is the greatest N that Refuse accepts.
const maxPosition = 1<<56 - 1

// positionKey encodes a position as a number. Consecutive positions of a kind have consecutive
// numbers.
func positionKey(n int, k Kind) uint64 { return k.Index()<<56 | uint64(n) }

func (r *Refusals) add(position, seq uint64) {
	i, found := slices.BinarySearch(r.Positions, position)
	if found {
		r.Sequences[i] = max(r.Sequences[i], seq)
		return
	}
	r.Positions, r.Sequences = slices.Insert(r.Positions, i, position), slices.Insert(r.Sequences, i, seq)
}

// Age notes that the message at sequence seq shows that the booking's first events have aged.
func (r *Refusals) Age(seq uint64) { r.AgedAt = max(r.AgedAt, seq, 1) }

// Clone returns refusals that can change without changing r.
func (r *Refusals) Clone() *Refusals {
	return &Refusals{Positions: slices.Clone(r.Positions), Sequences: slices.Clone(r.Sequences), AgedAt: r.AgedAt}
}

// Forget drops what comes from messages before sequence first, and reports whether anything is
// left.
func (r *Refusals) Forget(first uint64) bool {
	if r.AgedAt < first {
		r.AgedAt = 0
	}
	if slices.ContainsFunc(r.Sequences, func(s uint64) bool { return s < first }) {
		kept := 0
		for i, s := range r.Sequences {
			if s >= first {
				r.Positions[kept], r.Sequences[kept] = r.Positions[i], s
				kept++
			}
		}
		r.Positions, r.Sequences = r.Positions[:kept], r.Sequences[:kept]
	}
	return r.AgedAt > 0 || len(r.Positions) > 0
}

// runLength returns the number of consecutive occupied positions from p on. It takes logarithmic
// time, so a thousand forgeries cost ten steps.
func (r *Refusals) runLength(p uint64) int {
	i, found := slices.BinarySearch(r.Positions, p)
	if !found {
		return 0
	}
	rest := r.Positions[i:]
	return sort.Search(len(rest), func(j int) bool { return rest[j] != p+uint64(j) })
}
