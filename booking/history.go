package booking

import (
	"errors"
	"slices"
)

// A History is a booking in a Log: its verified events, and the revision of the log. The zero
// History is that of an unknown booking. Treat a History as immutable; make copies with Clone.
type History struct {
	EventSequencer
	Events   []Event // the applied events, in order
	Revision uint64  // sequence of the booking's last stored message, applied or refused; 0: none
}

// Clone returns a history that can change without changing h.
func (h History) Clone() History {
	h.EventSequencer = h.EventSequencer.Clone()
	h.Events = slices.Clone(h.Events)
	return h
}

// Trace returns the Trace of the last event that has one, or "".
func (h History) Trace() string {
	for _, e := range slices.Backward(h.Events) {
		if e.Trace != "" {
			return e.Trace
		}
	}
	return ""
}

// A Change is one event of a booking and the booking after it. Treat it as immutable: several
// watchers share it.
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

// byCommand returns the first event of a command.
func (h *History) byCommand(c CommandID) (Event, bool) {
	i := slices.IndexFunc(h.Events, func(e Event) bool { return e.Command == c })
	if i < 0 {
		return Event{}, false
	}
	return h.Events[i], true
}

// again returns the answer to a retry of the command of event e: the booking as it is now. A rider
// who has lost the booking since gets it as it was after e, because the rest concerns others.
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

// explain returns a refusal in words that are true for its actor. The state machine does not know
// who has released a booking; the events do.
func (h *History) explain(refusal error, a Actor) error {
	if errors.Is(refusal, ErrReleasedByYou) && !h.hasReleased(a) {
		return ErrReleasedByYou.Saying(
			"The system has taken this booking back from you, so you cannot have it again. Please choose another one.",
		)
	}
	return refusal
}

// by reports whether an actor has caused an event that match accepts.
func (h *History) by(a Actor, match func(Event) bool) bool {
	return slices.ContainsFunc(h.Events, func(e Event) bool { return e.Actor == a && match(e) })
}

// The methods below report whether an actor has already achieved what a new command asks for. Such
// a command succeeds and stores nothing.

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

// hasCancelled is for users only, because several operators may share the identity of a service.
func (h *History) hasCancelled(a Actor) bool { return a.Role == User && h.by(a, of(Cancelled)) }

// hasReleased is for riders only: they cannot have the booking again. A service may take it from
// one rider after the other.
func (h *History) hasReleased(a Actor) bool { return a.Role == Rider && h.by(a, of(Released)) }
