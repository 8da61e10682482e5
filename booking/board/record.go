package board

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/booking"
)

// A record is a booking in the memory of a Board. It takes less than half the memory of a Booking,
// and has few pointers for the garbage collector. Its methods booking and update convert without
// loss.
type record struct {
	id      booking.ID
	user    *userIndex
	rider   *riderIndex // nil: none
	trip    *trip       // nil: no places
	rare    *rare       // nil for most bookings
	applied []uint64
	// acceptance is the fingerprint of the command by which rider accepted
	acceptance uint64

	deadline, requestedAt, openedAt, updatedAt int64 // nanoseconds after 1970; 0 is the zero time
	seq, openedSeq, requestedSeq               uint64

	version int32 // no ledger has more messages about one booking
	state   stateCode
}

// trip is the places and the quote of a booking. It is immutable.
type trip struct {
	pickup, dropoff booking.Place
	quote           booking.Quote
	quoted          bool
}

// rare has the fields that are zero in most bookings. It is immutable, because goroutines share it.
type rare struct {
	reason                string
	lost                  *lost // nil: nobody has lost the booking
	wrongCodes            int32
	userStars, riderStars int8
}

// lost has the riders who have lost a booking, in order. It is immutable, too.
type lost struct {
	riders      []booking.RiderID
	acceptances []uint64 // of each of them
}

// A stateCode is a State in one byte: its index in states. Snapshots store it.
type stateCode uint8

const (
	openState     stateCode = 1
	acceptedState stateCode = 2
)

var states = booking.States()

// codeOf returns the code of a state, and 0, that of StateNone, for an unknown one.
func codeOf(s booking.State) stateCode { return stateCode(max(0, slices.Index(states, s))) }

func (c stateCode) state() booking.State { return states[c] }

// newRecord returns a record with the fields of a booking that never change.
func newRecord(b *booking.Booking, user *userIndex) *record {
	r := &record{
		id: booking.ID(strings.Clone(string(b.ID))), user: user,
		requestedAt: nanos(b.RequestedAt), requestedSeq: b.RequestedSeq,
	}
	if b.Pickup != nil {
		r.trip = &trip{pickup: *b.Pickup, dropoff: *b.Dropoff}
		if b.Quote != nil {
			r.trip.quote, r.trip.quoted = *b.Quote, true
			// it may be part of a long message
			r.trip.quote.Currency = strings.Clone(b.Quote.Currency)
		}
	}
	return r
}

// update sets the fields that may have changed. rider is the index of b.Rider, or nil. command has
// changed the booking.
func (r *record) update(b *booking.Booking, rider *riderIndex, command booking.CommandID) {
	riders, acceptances := r.losses()
	if len(b.ReleasedBy) > len(riders) {
		riders, acceptances = b.ReleasedBy, append(slices.Clip(acceptances), r.acceptance)
	}
	switch {
	case rider == nil:
		r.acceptance = 0
	case rider != r.rider:
		r.acceptance = command.Fingerprint()
	}
	r.rider, r.state, r.version, r.applied = rider, codeOf(b.State), int32(b.Version), b.Applied
	r.deadline, r.openedAt, r.updatedAt = nanos(b.Deadline), nanos(b.OpenedAt), nanos(b.UpdatedAt)
	r.seq, r.openedSeq = b.Seq, b.OpenedSeq
	r.rare = nil
	if len(riders) > 0 || b.WrongCodes > 0 || b.Reason != "" || b.UserStars > 0 || b.RiderStars > 0 {
		r.rare = newRare(b, riders, acceptances)
	}
}

func newRare(b *booking.Booking, riders []booking.RiderID, acceptances []uint64) *rare {
	x := &rare{
		reason: b.Reason, wrongCodes: int32(b.WrongCodes), userStars: int8(b.UserStars), riderStars: int8(b.RiderStars),
	}
	if len(riders) > 0 {
		x.lost = &lost{riders, acceptances}
	}
	return x
}

// booking returns the booking. It shares memory with the record, which nothing writes to.
func (r *record) booking() booking.Booking {
	b := booking.Booking{
		ID: r.id, User: r.user.id, State: r.state.state(), Version: int(r.version), Seq: r.seq,
		Deadline: timeOf(r.deadline), RequestedAt: timeOf(r.requestedAt), OpenedAt: timeOf(r.openedAt),
		UpdatedAt: timeOf(r.updatedAt), OpenedSeq: r.openedSeq, RequestedSeq: r.requestedSeq, Applied: r.applied,
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
		b.Reason, b.WrongCodes = x.reason, int(x.wrongCodes)
		b.UserStars, b.RiderStars = int(x.userStars), int(x.riderStars)
	}
	b.ReleasedBy = r.releases()
	return b
}

// losses returns the riders who have lost the booking, in order, and the acceptance of each.
func (r *record) losses() ([]booking.RiderID, []uint64) {
	if r.rare == nil || r.rare.lost == nil {
		return nil, nil
	}
	return r.rare.lost.riders, r.rare.lost.acceptances
}

// releases returns the riders who have lost the booking, in order.
func (r *record) releases() []booking.RiderID {
	riders, _ := r.losses()
	return riders
}

// acceptedBy reports whether a rider accepted the booking by the command with a fingerprint.
func (r *record) acceptedBy(rider booking.RiderID, command uint64) bool {
	if r.rider != nil && r.rider.id == rider && r.acceptance == command {
		return true
	}
	riders, acceptances := r.losses()
	for i, id := range riders {
		if id == rider && acceptances[i] == command {
			return true
		}
	}
	return false
}

// releasedBy reports whether a rider has lost the booking.
func (r *record) releasedBy(rider booking.RiderID) bool { return slices.Contains(r.releases(), rider) }

// clone returns the booking in memory of its own, for callers.
func (r *record) clone() booking.Booking {
	b := r.booking()
	return b.Clone()
}

// nanos returns a time in nanoseconds after 1970, limited to the range of 64 bits. It returns 0 for
// the zero time.
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

// remaining returns booking.Booking.Remaining of the record.
func (r *record) remaining() int {
	b := booking.Booking{State: r.state.state(), ReleasedBy: r.releases()}
	if r.rare != nil {
		b.WrongCodes = int(r.rare.wrongCodes)
	}
	return b.Remaining()
}
