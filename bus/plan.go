package bus

import (
	"cmp"
	"math"
	"time"

	"github.com/example/pillion/token"
	"github.com/nats-io/nats.go/jetstream"
)

// A Plan is what an operator decides about storage. Zero values take the defaults.
type Plan struct {
	LedgerAge time.Duration // how long an event is kept; 720 h
	// LedgerSize limits the ledger, in bytes; 4 GiB. The sizes of the other streams and buckets are
	// fractions of it.
	LedgerSize int64
	AuditAge   time.Duration // how long the audit trail is kept; 2160 h
	AuditSize  int64         // its limit, in bytes; 256 MiB
	Replicas   int           // copies of every stream and bucket: 1, 3 or 5
	// Disk is the disk under all of it. Where the sizes exceed the disk they are reduced, but never
	// below those of existing streams. nil: NATS has a limit of its own.
	Disk Disk
}

// Defaults of a Plan.
const (
	DefaultLedgerAge  = 720 * time.Hour
	DefaultLedgerSize = 4 << 30
	DefaultAuditAge   = 2160 * time.Hour
	DefaultAuditSize  = 256 << 20
	DefaultReplicas   = 1
)

// The sizes of streams and buckets are fractions of the ledger's size (…Share), between bounds.
// Where NATS servers have a limit (max_file_store), they reserve the sizes, full or not.
const (
	quarantineShare = 16
	boardsShare     = 4       // three of the largest board that fits the ledger
	bucketShare     = 4       // by default room for a million accounts, or logins
	countersShare   = 16      // more than a million login counters, addresses, or revocations
	timersShare     = 64      // a quarter of a million seconds
	bucketSize      = 1 << 30 // no bucket of accounts or logins needs more
	countersSize    = 256 << 20
	timersSize      = 64 << 20
	ridersSize      = 64 << 20 // a quarter of a million riders
	smallBucketSize = 16 << 20 // the key set is a few kilobytes
	turnsSize       = 1 << 20  // one small record
	smallestBucket  = 4 << 20
	smallestStream  = 1 << 20

	// quarantineSlack makes the quarantine outlive the ledger: a message that readers still refuse
	// is still recorded.
	quarantineSlack = 24 * time.Hour
	duplicateWindow = 2 * time.Minute // longer than an append is retried

	sessionsAge = 7*24*time.Hour + time.Hour // a refresh token lives for 7 days
	limitsAge   = 24 * time.Hour             // much longer than any counter matters
	familiarAge = 30 * 24 * time.Hour        // from the first login at that address
	timersAge   = 3 * 24 * time.Hour         // a deadline is a day ahead at most
	// revocationsSlack is how much longer than events revocations are kept. A token that was issued
	// just before its revocation may appear in an event until it has expired, plus the leeway.
	revocationsSlack = token.MaxLife + 2*token.EventLeeway
)

// withDefaults replaces zero values.
func (p Plan) withDefaults() Plan {
	p.LedgerAge = cmp.Or(p.LedgerAge, DefaultLedgerAge)
	p.LedgerSize = cmp.Or(p.LedgerSize, DefaultLedgerSize)
	p.AuditAge = cmp.Or(p.AuditAge, DefaultAuditAge)
	p.AuditSize = cmp.Or(p.AuditSize, DefaultAuditSize)
	p.Replicas = cmp.Or(p.Replicas, DefaultReplicas)
	return p
}

// streams returns the streams of a plan, the ledger first.
func (p Plan) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{p.ledger(), p.quarantine(), p.audit(), p.timers()}
}

// buckets returns the buckets of a plan, in the order of [Buckets].
func (p Plan) buckets() []jetstream.KeyValueConfig {
	bucket := func(name, description string, size int64, age time.Duration) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, Description: description, MaxBytes: size, TTL: age, Replicas: p.Replicas,
			Storage: jetstream.FileStorage,
		}
	}
	accounts, counters := p.part(bucketShare, smallestBucket, bucketSize),
		p.part(countersShare, smallestBucket, countersSize)
	keys := bucket(KeysBucket, "the public keys that verify tokens", smallBucketSize, 0)
	keys.History = 8
	revocations := bucket(RevocationsBucket, "tokens that were taken back", counters, p.LedgerAge+revocationsSlack)
	for _, followed := range []*jetstream.KeyValueConfig{&keys, &revocations} {
		followed.RePublish = &jetstream.RePublish{Source: BucketPattern(followed.Bucket),
			Destination: bucketLive + followed.Bucket + ".>"}
	}
	return []jetstream.KeyValueConfig{
		bucket(AccountsBucket, "accounts, by hash of email and role", accounts, 0),
		keys,
		bucket(SessionsBucket, "logins, by hash of their refresh tokens' family", accounts, sessionsAge),
		revocations,
		bucket(LimitsBucket, "how often somebody has tried to log in, by hash", counters, limitsAge),
		bucket(FamiliarBucket, "from where accounts were logged in to, by hash", counters, familiarAge),
		bucket(BoardsBucket, "snapshots of boards, which may be deleted at any time",
			p.part(boardsShare, smallBucketSize, math.MaxInt64), 0),
		bucket(RidersBucket, "riders who have said to be offline, or online again",
			p.part(timersShare, smallestBucket, ridersSize), 0),
		bucket(TurnsBucket, "which instance does what only one may do, and how far it is", turnsSize, 0),
	}
}

// part returns a fraction of the ledger's size, between bounds.
func (p Plan) part(share, least, most int64) int64 { return min(max(p.LedgerSize/share, least), most) }

// needs returns how many bytes all of it may take, on each server with a copy.
func (p Plan) needs() (sum int64) {
	for _, s := range p.streams() {
		sum += s.MaxBytes
	}
	for _, b := range p.buckets() {
		sum += b.MaxBytes
	}
	return sum
}

// onDisk returns a plan that fits the disk, with a smaller audit trail and then smaller everything.
func (p Plan) onDisk() Plan {
	if p.Disk == nil {
		return p
	}
	total, _, known := p.Disk()
	most := total - SpareRoom(total)
	if !known || p.needs() <= most {
		return p
	}
	p.AuditSize = min(p.AuditSize, max(most/8, smallestStream))
	for p.needs() > most && p.LedgerSize > smallestStream {
		p.LedgerSize = max(p.LedgerSize-p.LedgerSize/16, smallestStream)
	}
	return p
}

// stream returns what all streams have in common.
func (p Plan) stream(name, description, subjects string, age time.Duration, size int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: description, Subjects: []string{subjects}, MaxAge: age, MaxBytes: size,
		Storage: jetstream.FileStorage, Replicas: p.Replicas, AllowDirect: true, Duplicates: duplicateWindow,
	}
}

// ledger keeps the first message of each subject and discards later ones, so no publisher can
// overwrite or shadow a stored event, alone or in a batch. Nobody may delete or purge.
func (p Plan) ledger() jetstream.StreamConfig {
	s := p.stream(LedgerStream, "what happened to every booking: the only truth", LedgerSubjects, p.LedgerAge,
		p.LedgerSize)
	s.MaxMsgsPerSubject, s.Discard, s.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
	s.DenyDelete, s.DenyPurge = true, true
	s.AllowAtomicPublish = true
	s.Metadata = map[string]string{layoutKey: layout}
	s.RePublish = &jetstream.RePublish{Source: republishFrom, Destination: republishTo}
	return s
}

// quarantine drops the oldest records when it is full, so a flood of forgeries cannot stop the
// ledger's readers.
func (p Plan) quarantine() jetstream.StreamConfig {
	s := p.stream(QuarantineStream, "messages of the ledger that were refused, without their tokens", QuarantinePattern,
		p.LedgerAge+quarantineSlack, p.part(quarantineShare, smallestStream, math.MaxInt64))
	s.MaxMsgsPerSubject, s.Discard, s.DenyDelete = 1, jetstream.DiscardOld, true
	return s
}

// audit drops the oldest entries when it is full, so a flood of attempts cannot stop logins.
func (p Plan) audit() jetstream.StreamConfig {
	s := p.stream(AuditStream, "who did and tried what with accounts, without secrets", AuditPattern, p.AuditAge,
		p.AuditSize)
	s.Discard, s.DenyDelete = jetstream.DiscardOld, true
	return s
}

// timers holds the deadlines as scheduled messages, which NATS itself publishes when they are due:
// one for each second with a deadline in it.
func (p Plan) timers() jetstream.StreamConfig {
	s := p.stream(TimersStream, "when the deadlines of bookings pass", timerSubjects, timersAge,
		p.part(timersShare, smallestStream, timersSize))
	s.MaxMsgsPerSubject, s.Discard = 1, jetstream.DiscardOld
	s.AllowMsgSchedules = true
	s.AllowRollup = true // the server turns it on with schedules
	return s
}
