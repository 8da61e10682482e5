package booking

import (
	"math"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Kind says what happened, in the wire's words.
type Kind string

// The kinds of event, in the order of a booking's life. docs/events.md says which may follow which.
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
	RiderRated   Kind = "rider_rated"

	// An operator's decisions are events of their own, so that no service may write them.
	OperatorCancelled Kind = "operator_cancelled"
	OperatorReleased  Kind = "operator_released"
)

var kinds = [...]Kind{
	Requested, Accepted, Arrived, Started, StartRefused, Completed, Cancelled, Released, Expired, Rated,
	RiderRated, OperatorCancelled, OperatorReleased,
}

// Kinds returns all kinds of event.
func Kinds() []Kind { return slices.Clone(kinds[:]) }

// Index returns a number for each kind, from 1, and 0 for an unknown one. Snapshots store it.
func (k Kind) Index() uint64 { return uint64(slices.Index(kinds[:], k) + 1) }

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return k.Index() != 0 }

// IsRating reports whether events of kind k are ratings.
func (k Kind) IsRating() bool { return k.Public() == Rated }

// Public returns the word for k that people see: kinds that differ only in who may write them have
// the same.
func (k Kind) Public() Kind {
	switch k {
	case RiderRated:
		return Rated
	case OperatorCancelled:
		return Cancelled
	case OperatorReleased:
		return Released
	}
	return k
}

// Details are the fields that depend on the kind of an event. Each kind ignores the fields of
// others.
type Details struct {
	Pickup, Dropoff *Place    // requested
	Quote           *Quote    // requested: the quote at the time; only with places
	Deadline        time.Time // requested and releases: riders may accept until then
	Reason          string    // cancellations, releases: may be empty; at most MaxReason characters
	Stars           int       // ratings: 1 to 5
}

// MaxReason is the maximum length of a reason, in characters.
const MaxReason = 280

// validReason returns ErrInvalidReason for a reason that is too long, is not UTF-8 or has control
// characters. Commands are held to a stricter rule, plainText; older ledgers have reasons from
// before that rule.
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

// validDeadline returns ErrInvalidDeadline for the zero time, and for times outside the years 1970
// to 2262.
func validDeadline(t time.Time) error {
	if t.IsZero() || !Representable(t) {
		return ErrInvalidDeadline
	}
	return nil
}

// LongestWait is how far behind its storing the deadline of an event may be. It is a constant of
// the events' schema and no setting: a verdict must not change when a setting does.
const LongestWait = 24 * time.Hour

// Representable reports whether t is zero, or 64 bits can hold it as nanoseconds after 1970. Boards
// store times so.
func Representable(t time.Time) bool {
	s := t.Unix()
	return t.IsZero() || 0 < s && s < math.MaxInt64/int64(time.Second)
}

// An Event is one thing that happened to a booking.
type Event struct {
	ID      EventID
	Booking ID
	N       int // from 1; see [EventSequencer]
	Kind    Kind
	Actor   Actor
	Command CommandID // the command that caused it
	Request string    // Command.Request
	Decided time.Time // when the command was decided, by the service's clock
	At      time.Time // when the ledger stored it, by the server's clock; zero before that
	Seq     uint64    // its ledger sequence, from 1; zero before it is stored
	// Trace names the span that has stored it (W3C traceparent), if that is recorded. This package
	// does not read it.
	Trace string
	// Former says that an older build has stored it, whose services could cancel rides under way.
	Former bool
	Details
}

// When returns the time of the event: At, or Decided before the event is stored.
func (e *Event) When() time.Time {
	t := e.At
	if t.IsZero() {
		t = e.Decided
	}
	return t.Round(0).UTC()
}
