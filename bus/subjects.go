package bus

import (
	"strconv"
	"strings"

	"github.com/example/pillion/booking"
)

// Streams, buckets and subjects: every name on the bus is declared here and nowhere else.
const (
	LedgerStream     = "BOOKINGS"
	QuarantineStream = "QUARANTINE"
	AuditStream      = "AUDIT"
	TimersStream     = "TIMERS"
	AccountsBucket   = "ACCOUNTS"
	KeysBucket       = "KEYS"

	SessionsBucket    = "SESSIONS"
	RevocationsBucket = "REVOCATIONS"
	LimitsBucket      = "LIMITS"
	FamiliarBucket    = "FAMILIAR"
	BoardsBucket      = "BOARDS"
	RidersBucket      = "RIDERS"

	// What all instances share of them.
	DeadlinesConsumer = "deadlines" // of the ledger: what has a deadline, or calls for something
	FeedConsumer      = "feed"      // of the ledger: what watchers are told
	TimersConsumer    = "timers"    // of the timers: which have gone off

	ledgerSubjects     = "ledger.>"
	bookingPrefix      = "ledger.booking."
	riderPrefix        = "ledger.rider."
	quarantineSubjects = "quarantine.*"
	quarantinePrefix   = "quarantine."
	auditSubjects      = "audit.auth.*"
	auditPrefix        = "audit.auth."

	// A timer is set on timerSet + its second since 1970, and goes off as a message on timerDue + the same.
	timerSubjects = "timer.>"
	timerSet      = "timer.set."
	timerDue      = "timer.due."

	// Watchers subscribe to what was stored, not to what was tried (see docs/events.md).
	republishFrom = "ledger.booking.*.*.*"
	republishTo   = "booking.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"

	// What happens, without tokens: for whoever may watch, and for the user and the rider whose booking it is.
	feedBooking = "feed.booking."
	feedUser    = "feed.user."
	feedRider   = "feed.rider."
	feedOpen    = ".open." // and to a rider, what is open near them

	// A bucket is a stream with a name and subjects of its own.
	bucketStream = "KV_"
	bucketPrefix = "$KV."
	// Where riders are is told on core NATS, and is in no stream.
	positionSubjects = "fleet.position.*"
	positionPrefix   = "fleet.position."

	keysKey = "jwks"

	// The keys of revocations: s.<session>, and a.<account>.<seconds since 1970> for its tokens that are older than that. Each
	// revocation has a key of its own, so that another one of the same account changes nothing about what it says.
	revokedSession = "s."
	revokedAccount = "a."

	// A snapshot of a board is one key, and a chunk.<id>.<n> for each of its chunks. Whoever makes one says so under another.
	snapshotKey   = "snapshot"
	snapshotClaim = "claim"
	snapshotChunk = "chunk."

	subjectPublicKey    = "auth.public-key"
	subjectJWKS         = "auth.jwks"
	subjectRides        = "rides.of-account"
	subjectServiceToken = "auth.service-token" //nolint:gosec // a subject
)

// Buckets returns the names of all buckets, in the order in which Provision makes them.
func Buckets() []string {
	return []string{AccountsBucket, KeysBucket, SessionsBucket, RevocationsBucket, LimitsBucket, FamiliarBucket, BoardsBucket, RidersBucket}
}

// aggregate is the filter that covers everything about one booking. It is the guard of every write to it, and the server
// compares guards in flight by literal string, so there is only this one way to spell it.
func aggregate(id booking.ID) string { return bookingPrefix + string(id) + ".>" }

// rides is the filter that covers everything about one rider, and the guard of every write to it; see aggregate.
func rides(r booking.RiderID) string { return riderPrefix + string(r) + ".>" }

const engagedEvent = ".engaged"

// engagedSubject is where it stands that a rider has accepted a booking.
func engagedSubject(r booking.RiderID, id booking.ID) string {
	return riderPrefix + string(r) + "." + string(id) + engagedEvent
}

// parseEngaged reads ledger.rider.<rider id>.<booking id>.engaged.
func parseEngaged(s string) (booking.RiderID, booking.ID, bool) {
	rest, ok := strings.CutPrefix(s, riderPrefix)
	if !ok {
		return "", "", false
	}
	rest, ok = strings.CutSuffix(rest, engagedEvent)
	if !ok {
		return "", "", false
	}
	rider, id, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(rider) || !booking.ValidID(id) {
		return "", "", false
	}
	return booking.RiderID(rider), booking.ID(id), true
}

// A position is the place of a message in a booking's history, as its subject tells it.
type position struct {
	booking booking.ID
	n       int
	kind    booking.Kind
}

func (p position) subject() string {
	return bookingPrefix + string(p.booking) + "." + strconv.Itoa(p.n) + "." + string(p.kind)
}

// parseSubject reads ledger.booking.<id>.<n>.<event>. It accepts one spelling of each position only.
func parseSubject(s string) (position, bool) {
	rest, ok := strings.CutPrefix(s, bookingPrefix)
	if !ok {
		return position{}, false
	}
	id, rest, ok := strings.Cut(rest, ".")
	if !ok || !booking.ValidID(id) {
		return position{}, false
	}
	num, kind, ok := strings.Cut(rest, ".")
	if !ok || num == "" || num[0] < '1' || num[0] > '9' || len(num) > 9 {
		return position{}, false
	}
	n, err := strconv.Atoi(num)
	if err != nil || n < 1 || !booking.Kind(kind).Valid() {
		return position{}, false
	}
	return position{booking: booking.ID(id), n: n, kind: booking.Kind(kind)}, true
}
