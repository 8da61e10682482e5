// Package booking is the domain: the events in the life of a booking, the state machine that says which may follow which, and
// the [Desk], which is the command handler.
//
// Call [NewDesk] with a [Log], the event store, and then Desk.Book, Desk.Accept and so on. [Replay] folds a history of events
// into a [Booking], and Booking.Accept and its siblings decide on commands: these are pure functions. Package board lists
// bookings.
//
// Nothing here knows NATS, HTTP or tokens: callers verify who caused an event before it gets here. Whether a stored event counts
// depends only on what is stored, never on a clock, so that every reader at any time decides the same.
package booking

import (
	"slices"
	"time"
)

// A State says how far a booking is. The names are the wire's.
type State string

// The states.
const (
	StateNone      State = ""          // there is no such booking
	StateOpen      State = "open"      // waits for a rider
	StateAccepted  State = "accepted"  // a rider is on the way to the pickup
	StateArrived   State = "arrived"   // the rider is there
	StateStarted   State = "started"   // they ride
	StateCompleted State = "completed" // over, as it should be
	StateCancelled State = "cancelled" // over, and did not take place, or not wholly
	StateExpired   State = "expired"   // over: nobody accepted it in time
)

// States returns all states, StateNone first.
func States() []State {
	return []State{StateNone, StateOpen, StateAccepted, StateArrived, StateStarted, StateCompleted, StateCancelled, StateExpired}
}

// ParseState returns the state of that name, which is not StateNone, or ErrInvalidState.
func ParseState(name string) (State, error) {
	if s := State(name); s != StateNone && slices.Contains(States(), s) {
		return s, nil
	}
	return StateNone, ErrInvalidState
}

// A Booking is one ride as its events tell it. It is a value: what Pickup, Dropoff, Quote and ReleasedBy point to is never written
// again. The zero Booking is one that nobody has requested. All times are the ledger's, in UTC.
type Booking struct {
	ID      ID
	User    UserID
	Rider   RiderID // who has accepted it; empty while it is open
	State   State
	Version int    // N of the last event
	Seq     uint64 // Seq of the last event

	Pickup, Dropoff *Place
	Quote           *Quote    // fixed when it was requested; nil where there are no places, or was no tariff
	Deadline        time.Time // until when a rider may accept

	RequestedAt  time.Time // when it was requested
	OpenedAt     time.Time // when it became open, for the first time or again
	UpdatedAt    time.Time // when the last event happened
	OpenedSeq    uint64    // Seq of the event that opened it last
	RequestedSeq uint64    // Seq of its first event

	ReleasedBy []RiderID // riders who had it and may not have it again, in that order
	WrongCodes int       // wrong start codes since the rider arrived, at most MaxWrongCodes
	Reason     string    // why it was cancelled, or while it is open, why it was released last

	UserStars  int // 1 to 5, what the user gave; 0 before
	RiderStars int // 1 to 5, what the rider gave; 0 before

	Applied []uint64 // fingerprints of the ids of the events applied, in their order
}

// Clone returns a booking that shares no memory with b but Applied, which is never written to.
func (b *Booking) Clone() Booking {
	c := *b
	c.Pickup, c.Dropoff, c.Quote = b.Pickup.clone(), b.Dropoff.clone(), b.Quote.clone()
	c.ReleasedBy = slices.Clone(b.ReleasedBy)
	return c
}

// Overdue reports whether the booking waits for a rider and its deadline has passed.
func (b Booking) Overdue(now time.Time) bool { return b.State == StateOpen && now.After(b.Deadline) }

// IsWith reports whether a rider is on the way to the passenger, is there, or rides.
func (b *Booking) IsWith(r RiderID) bool {
	switch b.State {
	case StateAccepted, StateArrived, StateStarted:
		return b.Rider == r
	}
	return false
}

// Replay folds events into a booking. An event that does not follow from those before it is not applied, whoever wrote it. Replay does
// not look at positions; a [EventSequencer] does.
func Replay(events []Event) Booking {
	var b Booking
	for _, e := range events {
		if next, err := b.Apply(e); err == nil {
			b = next
		}
	}
	return b
}

// Apply returns the booking as it is after e. It looks at what e says about itself and at no clock.
//
// Errors: ErrDuplicate where an event with e's id has been applied, ErrDoesNotFollow (with the reason as its cause) where e may not
// happen here or may not be caused by its actor. An event that has not been stored may lack what the ledger gives it: its id, N,
// booking, At and Seq.
func (b Booking) Apply(e Event) (Booking, error) {
	mark := fingerprint(e.ID)
	if b.has(e.ID, mark) {
		return Booking{}, ErrDuplicate
	}
	if err := b.permits(&e); err != nil {
		return Booking{}, ErrDoesNotFollow.Because(err)
	}
	b.enact(&e)
	if e.ID != "" {
		applied := make([]uint64, len(b.Applied)+1)
		copy(applied, b.Applied)
		applied[len(b.Applied)] = mark
		b.Applied = applied
	}
	return b, nil
}

// enact changes b by an event that it permits. It writes to nothing that b shares with other bookings.
func (b *Booking) enact(e *Event) {
	at := e.When()
	switch e.Kind {
	case Requested:
		b.ID, b.User = e.Booking, UserID(e.Actor.ID)
		b.Pickup, b.Dropoff = e.Pickup.clone(), e.Dropoff.clone()
		b.Quote = e.Quote.clone()
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
	case Cancelled:
		b.State, b.Reason = StateCancelled, e.Reason
	case Released:
		b.ReleasedBy = append(slices.Clip(b.ReleasedBy), b.Rider)
		b.Rider, b.WrongCodes, b.Reason = "", 0, e.Reason
		b.open(e)
	case Expired:
		b.State = StateExpired
	case Rated:
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

// open makes b wait for a rider.
func (b *Booking) open(e *Event) {
	b.State = StateOpen
	b.Deadline = e.Deadline.Round(0).UTC()
	b.OpenedAt, b.OpenedSeq = e.When(), e.Seq
}

// has reports whether an event with this id, whose fingerprint is mark, has been applied.
func (b *Booking) has(id EventID, mark uint64) bool {
	return id != "" && slices.Contains(b.Applied, mark)
}

// fingerprint returns 64 bits of id (FNV-1a): a quarter of the memory of the id. Everybody computes the same, so everybody decides
// the same. Ids are random; that two of the few of one booking agree in 64 bits does not happen, and who makes it happen on
// purpose has only had his own event refused.
func fingerprint(id EventID) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}
