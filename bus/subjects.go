package bus

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

	LedgerSubjects     = "ledger.>"
	BookingPrefix      = "ledger.booking."
	RiderPrefix        = "ledger.rider."
	quarantineSubjects = "quarantine.*"
	QuarantinePrefix   = "quarantine."
	auditSubjects      = "audit.auth.*"
	AuditPrefix        = "audit.auth."

	// A timer is set on timerSet + its second since 1970, and goes off as a message on timerDue + the same.
	timerSubjects  = "timer.>"
	TimerSetPrefix = "timer.set."
	TimerDuePrefix = "timer.due."

	// Watchers subscribe to what was stored, not to what was tried (see docs/events.md).
	republishFrom = "ledger.booking.*.*.*"
	republishTo   = "booking.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"

	// What happens, without tokens: for whoever may watch, and for the user and the rider whose booking it is.
	FeedBookingPrefix = "feed.booking."
	FeedUserPrefix    = "feed.user."
	FeedRiderPrefix   = "feed.rider."
	FeedOpenToken     = ".open." // and to a rider, what is open near them

	// A bucket is a stream with a name and subjects of its own.
	bucketStream = "KV_"
	bucketPrefix = "$KV."
	// Where riders are is told on core NATS, and is in no stream.
	PositionSubjects = "fleet.position.*"
	PositionPrefix   = "fleet.position."

	JWKSKey = "jwks"

	// The keys of revocations: s.<session>, and a.<account>.<seconds since 1970> for its tokens that are older than that. Each
	// revocation has a key of its own, so that another one of the same account changes nothing about what it says.
	RevokedSessionPrefix = "s."
	RevokedAccountPrefix = "a."

	// A snapshot of a board is one key, and a chunk.<id>.<n> for each of its chunks. Whoever makes one says so under another.
	SnapshotKey         = "snapshot"
	SnapshotClaimKey    = "claim"
	SnapshotChunkPrefix = "chunk."

	PublicKeySubject    = "auth.public-key"
	JWKSSubject         = "auth.jwks"
	subjectRides        = "rides.of-account"
	ServiceTokenSubject = "auth.service-token" //nolint:gosec // a subject
)

// Buckets returns the names of all buckets, in the order in which Provision makes them.
func Buckets() []string {
	return []string{AccountsBucket, KeysBucket, SessionsBucket, RevocationsBucket, LimitsBucket, FamiliarBucket, BoardsBucket, RidersBucket}
}

const EngagedSuffix = ".engaged"
