package booking

import (
	"math"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Kind says what happened. The names are the wire's.
type Kind string

// The kinds of event, in the order of a booking's life. docs/events.md says which follows which.
const (
	Requested    Kind = "requested"
	Accepted     Kind = "accepted"
	Arrived      Kind = "arrived"
	Started      Kind = "started"
	StartRefused Kind = "start_refused"
	Completed    Kind = "completed"
	Cancelled    Kind = "cancelled"
	Released     Kind = "released"
	Expired      Kind = "expired"
	Rated        Kind = "rated"
)

// Kinds returns all kinds of event.
func Kinds() []Kind {
	return []Kind{Requested, Accepted, Arrived, Started, StartRefused, Completed, Cancelled, Released, Expired, Rated}
}

// Index returns a number for each kind, from 1, and 0 for an unknown one.
func (k Kind) Index() uint64 {
	switch k {
	case Requested:
		return 1
	case Accepted:
		return 2
	case Arrived:
		return 3
	case Started:
		return 4
	case StartRefused:
		return 5
	case Completed:
		return 6
	case Cancelled:
		return 7
	case Released:
		return 8
	case Expired:
		return 9
	case Rated:
		return 10
	}
	return 0
}

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return k.Index() != 0 }

// MayBeCausedBy reports whether an actor of role r may cause an event of kind k at all. Which of them may cause it in a given booking,
// [Booking.Apply] decides.
func (k Kind) MayBeCausedBy(r Role) bool {
	switch k {
	case Requested:
		return r == User
	case Accepted, Arrived, Started, StartRefused, Completed:
		return r == Rider
	case Cancelled:
		return r == User || r == Service
	case Released:
		return r == Rider || r == Service
	case Expired:
		return r == Service
	case Rated:
		return r == User || r == Rider
	}
	return false
}

// A Trip is where a ride goes from and to. The zero Trip leaves both to be agreed upon the spot.
type Trip struct{ Pickup, Dropoff *Place } // both, or none

// Valid returns ErrInvalidTrip when one place is given without the other, or ErrInvalidPlace.
func (t Trip) Valid() error {
	if t.Pickup == nil && t.Dropoff == nil {
		return nil
	}
	if t.Pickup == nil || t.Dropoff == nil {
		return ErrInvalidTrip
	}
	if err := t.Pickup.Valid(); err != nil {
		return err
	}
	return t.Dropoff.Valid()
}

// equal reports whether two trips lead from and to the same places.
func (t Trip) equal(o Trip) bool {
	return samePlace(t.Pickup, o.Pickup) && samePlace(t.Dropoff, o.Dropoff)
}

func samePlace(p, q *Place) bool {
	if p == nil || q == nil {
		return p == q
	}
	return *p == *q
}

func (p *Place) clone() *Place {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// Details are what an event says besides who did what and when. Each kind uses its own and disregards the others.
type Details struct {
	Pickup, Dropoff *Place    // requested
	Quote           *Quote    // requested: what the trip was to come to when it was booked; only with places
	Deadline        time.Time // requested, released: until when a rider may accept
	Reason          string    // cancelled, released: may be empty; at most MaxReason characters
	Stars           int       // rated: 1 to 5
}

// MaxReason is the greatest length of a reason, in characters.
const MaxReason = 280

// validReason returns ErrInvalidReason for a reason that is too long, is not UTF-8 or holds control
// characters. What a command may say is narrower, see plainText: ledgers hold reasons from before
// that.
func validReason(s string) error {
	if len(s) > MaxReason*utf8.UTFMax || !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxReason {
		return ErrInvalidReason
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return ErrInvalidReason
		}
	}
	return nil
}

// validDeadline returns ErrInvalidDeadline for no deadline, or one that is not within the years 1970 to 2262.
func validDeadline(t time.Time) error {
	if t.IsZero() || !Representable(t) {
		return ErrInvalidDeadline
	}
	return nil
}

// Representable reports whether t is the zero time or can be held in 64 bits as nanoseconds after 1970, as boards hold it.
func Representable(t time.Time) bool {
	s := t.Unix()
	return t.IsZero() || 0 < s && s < math.MaxInt64/int64(time.Second)
}

// An Event is one thing that happened to a booking.
type Event struct {
	ID      EventID
	Booking ID
	N       int // its position in the booking's history, from 1; see [Thread]
	Kind    Kind
	Actor   Actor
	Command CommandID // the command that caused it
	Request string    // what that asked for, as a fingerprint; see Command
	Decided time.Time // when the command was decided, by the service's clock
	At      time.Time // when the ledger stored it, by the server's clock; before that zero
	Seq     uint64    // its place in the ledger, from 1; before that zero
	Details
}

// When returns the time at which the event happened: when it was stored, or before that, when it was decided.
func (e *Event) When() time.Time {
	t := e.At
	if t.IsZero() {
		t = e.Decided
	}
	return t.Round(0).UTC()
}
