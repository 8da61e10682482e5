package board

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/booking"
)

// A record is a booking as a Board holds it: in less than half of a Booking's memory, and with few
// pointers for the garbage collector to follow. What one says of a booking, the other says too:
// booking and update translate.
type record struct {
	id      booking.ID
	user    *userIndex
	rider   *riderIndex // nil: nobody
	trip    *trip       // nil: to be agreed upon
	rare    *rare       // nil for most
	applied []uint64

	deadline, requestedAt, openedAt, updatedAt int64 // nanoseconds after 1970; 0 is the zero time
	seq, openedSeq, requestedSeq               uint64

	version int64
	state   stateCode
}

// trip is where a booking goes and what that comes to. It is immutable.
type trip struct {
	pickup, dropoff booking.Place
	quote           booking.Quote
	quoted          bool
}

// rare is what most bookings do not have. It is immutable: several goroutines may look at it.
type rare struct {
	releasedBy []booking.RiderID
	wrongCodes int
	reason     string
	userStars  int
	riderStars int
}

// A stateCode is a State in one byte: its index in States.
type stateCode uint8

const (
	openState     stateCode = 1
	acceptedState stateCode = 2
)

func codeOf(s booking.State) stateCode {
	switch s {
	case booking.StateOpen:
		return openState
	case booking.StateAccepted:
		return acceptedState
	case booking.StateArrived:
		return 3
	case booking.StateStarted:
		return 4
	case booking.StateCompleted:
		return 5
	case booking.StateCancelled:
		return 6
	case booking.StateExpired:
		return 7
	}
	return 0
}

func (c stateCode) state() booking.State {
	names := [...]booking.State{booking.StateNone, booking.StateOpen, booking.StateAccepted, booking.StateArrived,
		booking.StateStarted, booking.StateCompleted, booking.StateCancelled, booking.StateExpired}
	return names[c]
}

// newRecord returns a record with what never changes about a booking.
func newRecord(b *booking.Booking, user *userIndex) *record {
	r := &record{
		id: booking.ID(strings.Clone(string(b.ID))), user: user,
		requestedAt: nanos(b.RequestedAt), requestedSeq: b.RequestedSeq,
	}
	if b.Pickup != nil {
		r.trip = &trip{pickup: *b.Pickup, dropoff: *b.Dropoff}
		if b.Quote != nil {
			r.trip.quote, r.trip.quoted = *b.Quote, true
			// else it holds on to the whole message
			r.trip.quote.Currency = strings.Clone(b.Quote.Currency)
		}
	}
	return r
}

// update writes what may have changed. rider is b.Rider, or nil.
func (r *record) update(b *booking.Booking, rider *riderIndex) {
	r.rider, r.state, r.version, r.applied = rider, codeOf(b.State), int64(b.Version), b.Applied
	r.deadline, r.openedAt, r.updatedAt = nanos(b.Deadline), nanos(b.OpenedAt), nanos(b.UpdatedAt)
	r.seq, r.openedSeq = b.Seq, b.OpenedSeq
	r.rare = nil
	if len(b.ReleasedBy) > 0 || b.WrongCodes > 0 || b.Reason != "" || b.UserStars > 0 || b.RiderStars > 0 {
		r.rare = &rare{b.ReleasedBy, b.WrongCodes, b.Reason, b.UserStars, b.RiderStars}
	}
}

// booking returns the booking. It shares memory with the record that is never written to.
func (r *record) booking() booking.Booking {
	b := booking.Booking{
		ID: r.id, User: r.user.id, State: r.state.state(), Version: int(r.version), Seq: r.seq,
		Deadline: timeOf(r.deadline), RequestedAt: timeOf(r.requestedAt), OpenedAt: timeOf(r.openedAt),
		UpdatedAt: timeOf(r.updatedAt),
		OpenedSeq: r.openedSeq, RequestedSeq: r.requestedSeq,
		Applied: r.applied,
	}
	if r.rider != nil {
		b.Rider = r.rider.id
	}
	if t := r.trip; t != nil {
		b.Pickup, b.Dropoff = &t.pickup, &t.dropoff
		if t.quoted {
			b.Quote = &t.quote
		}
	}
	if x := r.rare; x != nil {
		b.ReleasedBy, b.WrongCodes, b.Reason, b.UserStars, b.RiderStars = x.releasedBy, x.wrongCodes, x.reason,
			x.userStars, x.riderStars
	}
	return b
}

// releases returns the riders who have given the booking back, in that order.
func (r *record) releases() []booking.RiderID {
	if r.rare == nil {
		return nil
	}
	return r.rare.releasedBy
}

// releasedBy reports whether a rider has given the booking back.
func (r *record) releasedBy(rider booking.RiderID) bool { return slices.Contains(r.releases(), rider) }

// clone returns the booking in memory of its own, for whoever asks.
func (r *record) clone() booking.Booking {
	b := r.booking()
	return b.Clone()
}

// nanos returns a time as nanoseconds after 1970, 0 for the zero time, and for what 64 bits do not
// hold the nearest they do.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case booking.Representable(t):
		return t.UnixNano()
	case t.Unix() > 0:
		return math.MaxInt64
	}
	return 0
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
