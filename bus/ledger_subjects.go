package bus

import (
	"strconv"
	"strings"

	"github.com/example/pillion/booking"
)

// EventsOf is the filter for everything about one booking, and the guard of every write to it. NATS
// compares the guards of concurrent writes as literal strings, so there must be only one spelling.
func EventsOf(id booking.ID) string { return BookingPrefix + string(id) + ".>" }

// EngagementsOf is the filter for everything about one rider, and the guard of every write to it.
func EngagementsOf(r booking.RiderID) string { return RiderPrefix + string(r) + ".>" }

// EngagedSubject is the subject of the record that a rider has accepted a booking.
func EngagedSubject(r booking.RiderID, id booking.ID) string {
	return RiderPrefix + string(r) + "." + string(id) + EngagedSuffix
}

// ParseEngagedSubject reads ledger.rider.<rider id>.<booking id>.engaged.
func ParseEngagedSubject(s string) (booking.RiderID, booking.ID, bool) {
	rest, ok := strings.CutPrefix(s, RiderPrefix)
	if !ok {
		return "", "", false
	}
	rest, ok = strings.CutSuffix(rest, EngagedSuffix)
	if !ok {
		return "", "", false
	}
	rider, id, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(rider) || !booking.ValidID(id) {
		return "", "", false
	}
	return booking.RiderID(rider), booking.ID(id), true
}

// An EventSubject is the place of an event in a booking's history, as its subject states it.
type EventSubject struct {
	Booking booking.ID
	N       int
	Kind    booking.Kind
}

// String returns ledger.booking.<id>.<n>.<event>.
func (s EventSubject) String() string {
	return BookingPrefix + string(s.Booking) + "." + strconv.Itoa(s.N) + "." + string(s.Kind)
}

// ParseEventSubject reads what [EventSubject.String] returns. It accepts one spelling of each place
// only.
func ParseEventSubject(s string) (EventSubject, bool) {
	rest, ok := strings.CutPrefix(s, BookingPrefix)
	if !ok {
		return EventSubject{}, false
	}
	id, rest, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(id) {
		return EventSubject{}, false
	}
	num, kind, ok := strings.Cut(rest, ".")
	if !ok || num == "" || num[0] < '1' || num[0] > '9' || len(num) > 9 {
		return EventSubject{}, false
	}
	n, err := strconv.Atoi(num)
	if err != nil || n < 1 || !booking.Kind(kind).Valid() {
		return EventSubject{}, false
	}
	return EventSubject{Booking: booking.ID(id), N: n, Kind: booking.Kind(kind)}, true
}
