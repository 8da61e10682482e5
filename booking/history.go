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
	EventSequencer
	Events   []Event // that were applied, in their order
	Revision uint64  // sequence of the booking's last stored message, verified or refused; 0: there is none
}

// Clone returns a history that can change without changing h.
func (h History) Clone() History {
	h.EventSequencer = h.EventSequencer.Clone()
	h.Events = slices.Clone(h.Events)
	return h
}

// A Change is one event of a booking and the booking after it. Treat it as immutable: several watchers share it.
type Change struct {
	Event   Event
	Booking Booking
}

// Changes returns the events of a history, each with the booking after it.
func (h History) Changes() []Change {
	changes := make([]Change, 0, len(h.Events))
	var b Booking
	for _, e := range h.Events {
		if next, err := b.Apply(e); err == nil {
			b = next
			changes = append(changes, Change{e, b})
		}
	}
	return changes
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

// again returns what the actor of event e is told when its command comes again: the booking as it is now, but to a rider who has
// it no longer as it was after e. What became of it since concerns others.
func (h *History) again(e Event) Booking {
	if e.Actor.Role == Rider && h.Booking.Rider != RiderID(e.Actor.ID) {
		for _, c := range h.Changes() {
			if c.Event.ID == e.ID {
				return c.Booking
			}
		}
	}
	return h.Booking
}

// by reports whether an actor has caused such an event.
func (h *History) by(a Actor, such func(Event) bool) bool {
	return slices.ContainsFunc(h.Events, func(e Event) bool { return e.Actor == a && such(e) })
}

// What an actor has done already, and what still stands: whoever asks for it again has had it.

func (h *History) onTheWay(a Actor) bool {
	return a.Role == Rider && h.Booking.IsWith(RiderID(a.ID))
}

func (h *History) hasArrived(a Actor) bool {
	return h.onTheWay(a) && h.Booking.State != StateAccepted
}

func (h *History) hasStarted(a Actor) bool {
	return h.onTheWay(a) && h.Booking.State == StateStarted
}

func (h *History) hasCompleted(a Actor) bool {
	return h.Booking.State == StateCompleted && h.by(a, of(Completed))
}

// hasCancelled is of users: several operators may work as one service.
func (h *History) hasCancelled(a Actor) bool { return a.Role == User && h.by(a, of(Cancelled)) }

// hasGivenBack is of riders, who cannot have the booking again. A service may take it from one rider
// after the other.
func (h *History) hasGivenBack(a Actor) bool { return a.Role == Rider && h.by(a, of(Released)) }

// An Engagement is what a log knows of a rider across bookings: which one the rider accepted last, and where the log stands. Whether the rider
// is still on that ride, the booking's own history says: ending a booking frees its rider, and there is nothing to forget. The zero
// Engagement is that of a rider who has never accepted any.
type Engagement struct {
	Booking  ID
	Revision uint64 // sequence of the rider's last record; 0: there is none
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
	//
	// It looks at one booking and at no rider: an acceptance is for Engage.
	Append(ctx context.Context, c Command, id ID, after History, events ...Event) (History, error)

	// Engagement returns what is known of a rider, as the log's leader has it: it is never older than the call.
	Engagement(ctx context.Context, r RiderID) (Engagement, error)

	// EngagedBy returns the booking that a rider has accepted by a command, or "" where there is none: also one that is over, or that the
	// rider has released. It is never older than the call.
	EngagedBy(ctx context.Context, r RiderID, c CommandID) (ID, error)

	// Engage is Append for the event by which a rider accepts a booking. In the same write the log notes that the rider has accepted
	// it, if what it knows of the rider is still at. So of several acceptances by one rider after the same Engagement at most one succeeds.
	//
	// ErrMoved says that the booking's history is no longer after, or the rider's engagement no longer at. ErrNotForYou says that this rider
	// has been noted for this booking before, and so can never have it.
	Engage(ctx context.Context, c Command, id ID, after History, at Engagement, accepted Event) (History, error)
}
