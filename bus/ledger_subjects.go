package ledger

import (
	"strconv"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// aggregate is the filter for everything about one booking, and the guard of every write to it.
// NATS compares the guards of concurrent writes as literal strings, so there must be only one
// spelling.
func aggregate(id booking.ID) string { return bus.BookingPrefix + string(id) + ".>" }

// rides is the filter for everything about one rider, and the guard of every write to it.
func rides(r booking.RiderID) string { return bus.RiderPrefix + string(r) + ".>" }

// engagedSubject is the subject of the record that a rider has accepted a booking.
func engagedSubject(r booking.RiderID, id booking.ID) string {
	return bus.RiderPrefix + string(r) + "." + string(id) + bus.EngagedSuffix
}

// ParseEngagementSubject reads ledger.rider.<rider id>.<booking id>.engaged.
func ParseEngagementSubject(s string) (booking.RiderID, booking.ID, bool) {
	rest, ok := strings.CutPrefix(s, bus.RiderPrefix)
	if !ok {
		return "", "", false
	}
	rest, ok = strings.CutSuffix(rest, bus.EngagedSuffix)
	if !ok {
		return "", "", false
	}
	rider, id, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(rider) || !booking.ValidID(id) {
		return "", "", false
	}
	return booking.RiderID(rider), booking.ID(id), true
}

// A Position is the place of an event in a booking's history, as its subject states it.
type Position struct {
	Booking booking.ID
	N       int
	Kind    booking.Kind
}

func (p Position) subject() string {
	return bus.BookingPrefix + string(p.Booking) + "." + strconv.Itoa(p.N) + "." + string(p.Kind)
}

// ParseSubject reads ledger.booking.<id>.<n>.<event>. It accepts one spelling of each position
// only.
func ParseSubject(s string) (Position, bool) {
	rest, ok := strings.CutPrefix(s, bus.BookingPrefix)
	if !ok {
		return Position{}, false
	}
	id, rest, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(id) {
		return Position{}, false
	}
	num, kind, ok := strings.Cut(rest, ".")
	if !ok || num == "" || num[0] < '1' || num[0] > '9' || len(num) > 9 {
		return Position{}, false
	}
	n, err := strconv.Atoi(num)
	if err != nil || n < 1 || !booking.Kind(kind).Valid() {
		return Position{}, false
	}
	return Position{Booking: booking.ID(id), N: n, Kind: booking.Kind(kind)}, true
}
