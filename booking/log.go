package booking

import (
	"context"
	"slices"
)

// A Reading says how much a read must know.
type Reading uint8

// The readings.
const (
	Quick Reading = iota // may be stale: enough to decide what the append will check
	Fresh                // reaches at least what the leader had when it was asked: for whatever is told to anybody
)

// A History is a booking as a Log has it: the events that were verified and applied, and where the log stands. The zero History is
// that of a booking that nothing is known of. Treat it as immutable; make copies with Clone.
type History struct {
	Thread
	Events   []Event // that were applied, in their order
	Revision uint64  // sequence of the booking's last stored message, verified or refused; 0: there is none
}

// Clone returns a history that can change without changing h.
func (h History) Clone() History {
	h.Thread = h.Thread.Clone()
	h.Events = slices.Clone(h.Events)
	return h
}

// byCommand returns the first event that command c has caused.
func (h *History) byCommand(c CommandID) (Event, bool) {
	for _, e := range h.Events {
		if e.Command == c {
			return e, true
		}
	}
	return Event{}, false
}

// A Log keeps the events of bookings. It is the only truth: the append is the state change. Package bookingtest has the suite
// that every implementation passes.
type Log interface {
	// Load returns the history of a booking. Of an unknown booking it returns the zero History and no error.
	Load(ctx context.Context, id ID, r Reading) (History, error)

	// Append stores the events of one command, all or none, if the booking's history is still after, and returns the history
	// with them. It gives them their ID, N, Seq, Command, Booking, Decided and At. At most one of several appends after the same
	// history succeeds.
	//
	// ErrMoved says that the history is no longer after, and that nothing was stored: decide again. With it comes the history as
	// it has become, if the log has read it (fresh), and else the zero one. A fault of kind Unavailable says that the outcome is
	// not known, or that nothing can be stored now.
	Append(ctx context.Context, c Command, id ID, after History, events ...Event) (History, error)
}
