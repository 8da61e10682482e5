package bus

import (
	"strings"

	"github.com/example/pillion/booking"
)

// Streams, buckets and consumers. Every name on NATS is declared in this file and nowhere else.
const (
	LedgerStream     = "BOOKINGS"
	QuarantineStream = "QUARANTINE"
	AuditStream      = "AUDIT"
	TimersStream     = "TIMERS"

	AccountsBucket    = "ACCOUNTS"
	KeysBucket        = "KEYS"
	SessionsBucket    = "SESSIONS"
	RevocationsBucket = "REVOCATIONS"
	LimitsBucket      = "LIMITS"
	FamiliarBucket    = "FAMILIAR"
	BoardsBucket      = "BOARDS"
	RidersBucket      = "RIDERS"
	TurnsBucket       = "TURNS"

	// Durable consumers of timers that have fired. All instances of a service share one.
	ExpiriesConsumer = "timers"   // usersvc's
	ReleasesConsumer = "releases" // ridersvc's

	// Durable consumers of the ledger that only an older version reads. Provision deletes them once
	// nobody does any more.
	FormerDeadlinesConsumer = "deadlines"
	FormerFeedConsumer      = "feed"
)

// Subjects of messages.
const (
	LedgerSubjects = "ledger.>"
	BookingPrefix  = "ledger.booking." // + <booking>.<n>.<event>
	RiderPrefix    = "ledger.rider."   // + <rider>.<booking> + EngagedSuffix
	EngagedSuffix  = ".engaged"

	QuarantinePrefix = "quarantine." // + the sequence of the refused message
	AuditPrefix      = "audit.auth." // + the action

	// Setting a timer publishes to TimerSetPrefix + its second since 1970. When it fires, NATS
	// publishes to TimerDuePrefix + the same second.
	timerSubjects  = "timer.>"
	TimerSetPrefix = "timer.set."
	TimerDuePrefix = "timer.due."

	// NATS republishes what it has stored, so subscribers never see rejected writes
	// (docs/events.md). The stream's first token goes: ledger.booking.> becomes booking.>, and
	// ledger.rider.> becomes rider.>. Nobody may write anything else to the ledger.
	republishFrom = "ledger.*.*.*.*"
	republishTo   = "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}"
	// The buckets that every service follows are republished with this in place of "$KV".
	bucketLive = "kv."

	// The feed carries no tokens. Anyone with the permission may watch all of it; a user and a
	// rider each watch their own bookings.
	FeedBookingPrefix = "feed.booking."
	FeedUserPrefix    = "feed.user."
	FeedRiderPrefix   = "feed.rider."
	FeedOpenToken     = ".open." // behind a rider's ID: offers of open bookings near the rider

	PositionPrefix      = "fleet.position." // + <rider>; core NATS, in no stream
	PublicKeySubject    = "auth.public-key"
	JWKSSubject         = "auth.jwks"
	ServiceTokenSubject = "auth.service-token" //nolint:gosec // a subject
	OrderSubject        = "auth.order"         // only the operator
	UserRidesSubject    = "rides.of-user"      // usersvc answers for the bookings of a user
	RiderRidesSubject   = "rides.of-rider"     // and ridersvc for those of a rider

	// A bucket is a stream with a name and subjects of its own.
	bucketStream = "KV_"
	bucketPrefix = "$KV."
)

// Keys in buckets.
const (
	JWKSKey = "jwks"

	FeedTurnKey = "feed" // whose turn it is to publish the feed, and how far that is

	// The key of a revocation is s.<session>, or a.<account>.<seconds since 1970> for the account's
	// tokens issued before then. A second revocation of an account has a key of its own, so the
	// first one keeps its meaning.
	RevokedSessionPrefix = "s."
	RevokedAccountPrefix = "a."

	// A snapshot is the record under SnapshotKey and its chunks under SnapshotChunkPrefix +
	// <id>.<n>. SnapshotClaimKey says who is making one.
	SnapshotKey         = "snapshot"
	SnapshotClaimKey    = "claim"
	SnapshotChunkPrefix = "chunk."
)

// Patterns of subjects, for permissions (package access).
const (
	EngagedPattern     = RiderPrefix + "*.*" + EngagedSuffix
	QuarantinePattern  = QuarantinePrefix + "*"
	AuditPattern       = AuditPrefix + "*"
	TimerPattern       = TimerSetPrefix + "*"
	FeedBookingPattern = FeedBookingPrefix + "*.*.*"
	FeedUserPattern    = FeedUserPrefix + "*.*.*.*"
	FeedRiderPattern   = FeedRiderPrefix + "*.*.*.*"
	// FeedOpenPattern has more tokens than FeedRiderPattern, so no subject matches both.
	FeedOpenPattern = FeedRiderPrefix + "*" + FeedOpenToken + "*.*.*"
	FleetPattern    = PositionPrefix + "*"
)

// TimersConsumers returns the consumers of timers that have fired.
func TimersConsumers() []string { return []string{ExpiriesConsumer, ReleasesConsumer} }

// Buckets returns the names of all buckets, in the order in which Provision makes them.
func Buckets() []string {
	return []string{
		AccountsBucket, KeysBucket, SessionsBucket, RevocationsBucket, LimitsBucket, FamiliarBucket,
		BoardsBucket, RidersBucket, TurnsBucket,
	}
}

// EventPattern matches the subjects of all events of a kind.
func EventPattern(k booking.Kind) string { return BookingPrefix + "*.*." + string(k) }

// LiveSubjects returns the subjects on which NATS republishes what it stores in a stream: those of
// the ledger, and of the buckets that every service follows.
func LiveSubjects(stream string) []string {
	switch stream {
	case LedgerStream:
		return []string{"booking.*.*.*", "rider.*.*" + EngagedSuffix}
	case BucketStream(KeysBucket), BucketStream(RevocationsBucket):
		return []string{bucketLive + strings.TrimPrefix(stream, bucketStream) + ".>"}
	}
	return nil
}

// BucketStream returns the stream that stores a bucket.
func BucketStream(bucket string) string { return bucketStream + bucket }

// BucketPattern matches the subjects of all values in a bucket.
func BucketPattern(bucket string) string { return bucketPrefix + bucket + ".>" }

// FeedOfBooking matches the feed of one booking.
func FeedOfBooking(id string) string { return FeedBookingPrefix + id + ".>" }

// FeedOfUser matches the feed of one user's bookings.
func FeedOfUser(id string) string { return FeedUserPrefix + id + ".>" }

// FeedOfRider matches the feed of one rider: the bookings that the rider has accepted, and offers.
func FeedOfRider(id string) string { return FeedRiderPrefix + id + ".>" }

// RidesOfRider is [FeedOfRider] without offers, whose subjects have one token more.
func RidesOfRider(id string) string { return FeedRiderPrefix + id + ".*.*.*" }

// InboxPrefix begins the reply subjects of one client. No other client may read them.
func InboxPrefix(who string) string { return "_INBOX_" + who }
