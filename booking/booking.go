// Package booking is the domain of bookings: their events, the state machine that orders them, and
// the command handler, [Desk].
//
// Call [NewDesk] with a [Log], the event store, and then [Desk.Book], [Desk.Accept] and its other
// methods. [Booking.Apply] folds an event, and the other methods of [Booking] decide on commands;
// these are pure functions. Package board lists bookings.
//
// The package knows no NATS, HTTP or tokens. Callers verify who caused an event before they pass it
// on. Whether a stored event counts depends only on what is stored, never on a clock, so every
// reader decides the same at any time.
package booking

import (
	"slices"
	"time"
)

// A State is the state of a booking, in the wire's words.
type State string

// The states.
const (
	StateNone      State = ""          // there is no such booking
	StateOpen      State = "open"      // riders may accept it
	StateAccepted  State = "accepted"  // a rider is on the way to the pickup
	StateArrived   State = "arrived"   // the rider is at the pickup
	StateStarted   State = "started"   // the ride has begun
	StateCompleted State = "completed" // the ride has taken place
	StateCancelled State = "cancelled" // the ride did not take place, or broke off
	StateExpired   State = "expired"   // nobody accepted it in time
)

// States returns all states, StateNone first.
func States() []State {
	return []State{
		StateNone, StateOpen, StateAccepted, StateArrived, StateStarted, StateCompleted, StateCancelled, StateExpired,
	}
}

// ParseState returns the state with a name. It returns ErrInvalidState for unknown names and "".
func ParseState(name string) (State, error) {
	if s := State(name); s != StateNone && slices.Contains(States(), s) {
		return s, nil
	}
	return StateNone, ErrInvalidState
}

// A Booking is one ride, as its events have made it. It is a value: nothing writes to the memory
// that Pickup, Dropoff, Quote and ReleasedBy point to. The zero Booking is one that nobody has
// requested. All times are the ledger's, in UTC.
type Booking struct {
	ID      ID
	User    UserID
	Rider   RiderID // who accepted it; empty while it is open
	State   State
	Version int    // N of the last event
	Seq     uint64 // Seq of the last event

	Pickup, Dropoff *Place
	Quote           *Quote    // fixed at the request; nil without places or a tariff
	Deadline        time.Time // riders may accept until then

	RequestedAt  time.Time // when it was requested
	OpenedAt     time.Time // when it last became open
	UpdatedAt    time.Time // when the last event happened
	OpenedSeq    uint64    // Seq of the event that last opened it
	RequestedSeq uint64    // Seq of the first event

	ReleasedBy []RiderID // riders who lost it and may not accept it again, in order
	WrongCodes int       // wrong start codes of the present rider, at most MaxWrongCodes
	Reason     string    // why it was cancelled or, while it is open, last released

	UserStars  int // given by the user, 1 to 5; 0: none yet
	RiderStars int // given by the rider, 1 to 5; 0: none yet

	Applied []uint64 // fingerprints of the ids of the applied events, in order
}

// Clone returns a booking that shares no memory with b, except Applied, which nothing writes to.
func (b *Booking) Clone() Booking {
	c := *b
	c.Pickup, c.Dropoff, c.Quote = clone(b.Pickup), clone(b.Dropoff), clone(b.Quote)
	c.ReleasedBy = slices.Clone(b.ReleasedBy)
	return c
}

// Overdue reports whether the booking is open and its deadline has passed.
func (b Booking) Overdue(now time.Time) bool { return b.State == StateOpen && now.After(b.Deadline) }

// IsWith reports whether a rider has accepted the booking, and the ride is not over.
func (b *Booking) IsWith(r RiderID) bool {
	switch b.State {
	case StateAccepted, StateArrived, StateStarted:
		return b.Rider == r
	}
	return false
}

// isOverFor reports whether the ride is over, or r has lost it. No later event changes that.
func (b *Booking) isOverFor(r RiderID) bool {
	switch b.State {
	case StateCompleted, StateCancelled, StateExpired:
		return true
	}
	return slices.Contains(b.ReleasedBy, r)
}

// Apply returns the booking after e. It depends on b and e only, and on no clock. An event that is
// not stored yet may lack its ID, N, Booking, At and Seq.
//
// Errors: ErrDuplicate if an event with e's id was applied before; ErrDoesNotFollow, with the
// reason as its cause, if e is not possible after b's last event or not permitted to its actor.
func (b Booking) Apply(e Event) (Booking, error) {
	hash := fingerprint(e.ID)
	if b.has(e.ID, hash) {
		return Booking{}, ErrDuplicate
	}
	if err := b.permits(&e); err != nil {
		return Booking{}, ErrDoesNotFollow.Because(err)
	}
	b.enact(&e)
	if e.ID != "" {
		applied := make([]uint64, len(b.Applied)+1)
		copy(applied, b.Applied)
		applied[len(b.Applied)] = hash
		b.Applied = applied
	}
	return b, nil
}

// enact changes b by an event that it permits. It does not write to memory that b shares.
func (b *Booking) enact(e *Event) {
	at := e.When()
	switch e.Kind {
	case Requested:
		b.ID, b.User = e.Booking, UserID(e.Actor.ID)
		b.Pickup, b.Dropoff, b.Quote = clone(e.Pickup), clone(e.Dropoff), clone(e.Quote)
		b.RequestedAt, b.RequestedSeq = at, e.Seq
		b.open(e)
	case Accepted:
		b.State, b.Rider, b.Reason = StateAccepted, RiderID(e.Actor.ID), ""
	case Arrived:
		b.State = StateArrived
	case Started:
		b.State = StateStarted
	case StartRefused:
		b.WrongCodes++
	case Completed:
		b.State = StateCompleted
	case Cancelled, OperatorCancelled:
		b.State, b.Reason = StateCancelled, e.Reason
	case Released, OperatorReleased:
		b.ReleasedBy = append(slices.Clip(b.ReleasedBy), b.Rider)
		b.Rider, b.WrongCodes, b.Reason = "", 0, e.Reason
		b.open(e)
	case Expired:
		b.State = StateExpired
	case Rated, RiderRated:
		if e.Actor.Role == User {
			b.UserStars = e.Stars
		} else {
			b.RiderStars = e.Stars
		}
	}
	b.UpdatedAt, b.Seq = at, e.Seq
	b.Version++
	if e.N > 0 {
		b.Version = e.N
	}
}

// open opens b to riders.
func (b *Booking) open(e *Event) {
	b.State = StateOpen
	b.Deadline = e.Deadline.Round(0).UTC()
	b.OpenedAt, b.OpenedSeq = e.When(), e.Seq
}

// has reports whether an event with an id, and the id's fingerprint, was applied.
func (b *Booking) has(id EventID, hash uint64) bool {
	return id != "" && slices.Contains(b.Applied, hash)
}

// Fingerprint returns a number that takes a quarter of the id's memory. Different commands may have
// the same one, but not by chance.
func (c CommandID) Fingerprint() uint64 { return fingerprint(c) }

// fingerprint returns the 64-bit FNV-1a hash of an id, which takes a quarter of the memory. A
// collision among the few random ids of a booking does not happen by chance. An actor who provokes
// one only has their own event refused.
func fingerprint[ID ~string](id ID) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}
