package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pillion/booking"
	"pillion/fault"
	"pillion/token"
)

// A Plan is what an operator decides about storage. Zero values take the defaults.
type Plan struct {
	LedgerAge  time.Duration // how long an event is kept; 720 h
	LedgerSize int64         // bytes that the ledger may take; 4 GiB
	AuditAge   time.Duration // how long the audit trail is kept; 2160 h
	AuditSize  int64         // bytes that it may take; 256 MiB
	Replicas   int           // copies of every stream and bucket: 1, 3 or 5
}

// Defaults of a Plan.
const (
	DefaultLedgerAge  = 720 * time.Hour
	DefaultLedgerSize = 4 << 30
	DefaultAuditAge   = 2160 * time.Hour
	DefaultAuditSize  = 256 << 20
	DefaultReplicas   = 1
)

const (
	quarantineShare = 16               // the quarantine may take this fraction of the ledger's size
	quarantineSlack = 24 * time.Hour   // and outlives the ledger: what is still there to be refused again is still recorded
	boardsShare     = 4                // the snapshots of boards may take this fraction: three of the largest board that fits the ledger
	smallBucketSize = 16 << 20         // the key set is a few kilobytes
	bucketSize      = 1 << 30          // a million accounts
	duplicateWindow = 2 * time.Minute  // longer than any retry of an append
	provisionWait   = 10 * time.Second // for one stream or bucket

	sessionsAge           = 7*24*time.Hour + time.Hour // a refresh token lives for 7 days
	revocationsSize int64 = 256 << 20                  // a million of them
	// NATS sets the room aside at once, so what is asked for must be there on a small disk too.
	triesSize   int64 = 256 << 20           // a million and more
	limitsAge         = 24 * time.Hour      // much longer than any counter matters
	familiarAge       = 30 * 24 * time.Hour // from the first login at that address
	timersAge         = 3 * 24 * time.Hour  // a deadline is a day ahead at most
	timersSize  int64 = 64 << 20            // a quarter of a million seconds
	// revocationsSlack is how much longer than the ledger's events revocations are kept: a token that was issued just before it
	// was revoked may stand in an event a day later, until it has run out and the leeway with it.
	revocationsSlack = token.MaxLife + 2*token.EventLeeway
)

// ErrNarrowing refuses a plan under which something that is stored would be dropped, or kept less safely.
var ErrNarrowing = fault.New(fault.Invalid, "narrowing", "This would narrow what exists.")

// Provision makes the streams, buckets and the consumers that services share, or widens those that are there. It has one owner at a time: the pillion program for
// its embedded server, an operator's `pillion provision` for any other. It refuses, with ErrNarrowing and before it changes
// anything, to shorten an age, lessen a size or lower the number of replicas.
func Provision(ctx context.Context, c *Conn, p Plan) error {
	if p.LedgerAge == 0 {
		p.LedgerAge = DefaultLedgerAge
	}
	if p.LedgerSize == 0 {
		p.LedgerSize = DefaultLedgerSize
	}
	if p.AuditAge == 0 {
		p.AuditAge = DefaultAuditAge
	}
	if p.AuditSize == 0 {
		p.AuditSize = DefaultAuditSize
	}
	if p.Replicas == 0 {
		p.Replicas = DefaultReplicas
	}
	streams := []jetstream.StreamConfig{ledgerConfig(p), quarantineConfig(p), auditConfig(p), timersConfig(p)}
	for _, want := range streams {
		if err := c.refuseNarrowing(ctx, want); err != nil {
			return err
		}
	}
	for _, want := range streams {
		if err := c.provisionStream(ctx, want); err != nil {
			return err
		}
	}
	for _, want := range []jetstream.KeyValueConfig{
		{Bucket: AccountsBucket, Description: "accounts, by hash of email and role", MaxBytes: bucketSize, Replicas: p.Replicas, Storage: jetstream.FileStorage},
		{Bucket: KeysBucket, Description: "the public keys that verify tokens", MaxBytes: smallBucketSize, Replicas: p.Replicas, Storage: jetstream.FileStorage, History: 8},
		{Bucket: SessionsBucket, Description: "logins, by hash of their refresh tokens' family", MaxBytes: bucketSize, Replicas: p.Replicas, Storage: jetstream.FileStorage, TTL: sessionsAge},
		{Bucket: RevocationsBucket, Description: "tokens that were taken back", MaxBytes: revocationsSize, Replicas: p.Replicas, Storage: jetstream.FileStorage, TTL: p.LedgerAge + revocationsSlack},
		{Bucket: LimitsBucket, Description: "how often somebody has tried to log in, by hash", MaxBytes: triesSize, Replicas: p.Replicas, Storage: jetstream.FileStorage, TTL: limitsAge},
		{Bucket: FamiliarBucket, Description: "from where accounts were logged in to, by hash", MaxBytes: triesSize, Replicas: p.Replicas, Storage: jetstream.FileStorage, TTL: familiarAge},
		{Bucket: BoardsBucket, Description: "snapshots of boards, which may be deleted at any time", MaxBytes: max(p.LedgerSize/boardsShare, smallBucketSize), Replicas: p.Replicas, Storage: jetstream.FileStorage},
	} {
		if err := c.provisionBucket(ctx, want); err != nil {
			return err
		}
	}
	for _, want := range durables() {
		if err := c.provisionConsumer(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// A durable is a consumer that all instances of the services share. They only use it: it comes with the streams.
type durable struct {
	stream string
	config jetstream.ConsumerConfig
}

func durables() []durable {
	return []durable{
		{TimersStream, jetstream.ConsumerConfig{
			Durable: TimersConsumer, Description: "timers that have gone off", FilterSubject: timerDue + "*",
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: dutyWait, MaxAckPending: 4 * dutyAtOnce, DeliverPolicy: jetstream.DeliverAllPolicy,
		}},
		{LedgerStream, jetstream.ConsumerConfig{
			Durable: DeadlinesConsumer, Description: "what has a deadline, or calls for something", FilterSubjects: []string{
				EventPattern(booking.Requested), EventPattern(booking.Accepted), EventPattern(booking.Released), EventPattern(booking.StartRefused),
			},
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: dutyWait, MaxAckPending: 4 * dutyAtOnce, DeliverPolicy: jetstream.DeliverAllPolicy,
		}},
		// One instance gets all messages, so that the feed has the ledger's order however many instances there are.
		{LedgerStream, jetstream.ConsumerConfig{
			Durable: FeedConsumer, Description: "what watchers are told", FilterSubject: republishFrom,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: feedWait, MaxAckPending: feedAtOnce, DeliverPolicy: jetstream.DeliverNewPolicy,
			PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{feedGroup}, PinnedTTL: feedPin,
		}},
	}
}

// What keeps a server from being one of Pillion's.
var (
	ErrNotProvisioned = fault.New(fault.Unavailable, "not_provisioned",
		"The streams are not there yet: run pillion provision. If they should be there, see that --nats-url is right.").After(2 * time.Second)
	ErrNoJetStream = fault.New(fault.Unavailable, "no_jetstream",
		"The NATS server has no JetStream, or none that works at the moment. See that it is switched on, and that most servers of a cluster are running.").After(2 * time.Second)
)

// Provisioned returns nil when everything is there that Provision makes, and otherwise what to do: ErrNotProvisioned or
// ErrNoJetStream where that is the reason.
func (c *Conn) Provisioned(ctx context.Context) error {
	all := durables()
	last := all[len(all)-1] // that Provision makes, and one that an older Pillion did not make
	return c.look(last.stream, func() error {
		_, err := c.js.Consumer(ctx, last.stream, last.config.Durable)
		return err
	})
}

// HasLedger returns nil when the server has a ledger, of whatever version, and otherwise what Provisioned does.
func (c *Conn) HasLedger(ctx context.Context) error {
	return c.look(LedgerStream, func() error {
		_, err := c.js.Stream(ctx, LedgerStream)
		return err
	})
}

// look says what it means that something could not be found.
func (c *Conn) look(stream string, find func() error) error {
	if !c.link.is() {
		return errLinkDown // and do not wait for an answer that cannot come
	}
	switch err := find(); {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return ErrNotProvisioned
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return ErrNoJetStream.Because(err)
	default:
		return unavailable("look at stream "+stream, err)
	}
}

// ledgerConfig is the ledger. With one message a subject and new ones discarded, no publisher can overwrite or shadow a stored
// event, alone or in a batch; deletes and purges are denied to everybody.
func ledgerConfig(p Plan) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 LedgerStream,
		Description:          "what happened to every booking: the only truth",
		Subjects:             []string{ledgerSubjects},
		Storage:              jetstream.FileStorage,
		Replicas:             p.Replicas,
		MaxAge:               p.LedgerAge,
		MaxBytes:             p.LedgerSize,
		MaxMsgsPerSubject:    1,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		DenyDelete:           true,
		DenyPurge:            true,
		AllowDirect:          true,
		AllowAtomicPublish:   true,
		Duplicates:           duplicateWindow,
		RePublish:            &jetstream.RePublish{Source: republishFrom, Destination: republishTo},
	}
}

// quarantineConfig is the record of what was refused. It gives way to newer records when it is full, so that a flood of
// forgeries can never stop the ledger's readers.
func quarantineConfig(p Plan) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              QuarantineStream,
		Description:       "messages of the ledger that were refused, without their tokens",
		Subjects:          []string{quarantineSubjects},
		Storage:           jetstream.FileStorage,
		Replicas:          p.Replicas,
		MaxAge:            p.LedgerAge + quarantineSlack,
		MaxBytes:          max(p.LedgerSize/quarantineShare, 1<<20),
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		DenyDelete:        true,
		AllowDirect:       true,
		Duplicates:        duplicateWindow,
	}
}

// auditConfig is the audit trail. It gives way to newer entries when it is full, so that a flood of attempts never stops logins.
func auditConfig(p Plan) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        AuditStream,
		Description: "who did and tried what with accounts, without secrets",
		Subjects:    []string{auditSubjects},
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxAge:      p.AuditAge,
		MaxBytes:    p.AuditSize,
		Discard:     jetstream.DiscardOld,
		DenyDelete:  true,
		AllowDirect: true,
		Duplicates:  duplicateWindow,
	}
}

// timersConfig is where deadlines are, which NATS itself keeps: a message that is to be stored at a time. There is one for each second that
// has a deadline in it.
func timersConfig(p Plan) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              TimersStream,
		Description:       "when the deadlines of bookings pass",
		Subjects:          []string{timerSubjects},
		Storage:           jetstream.FileStorage,
		Replicas:          p.Replicas,
		MaxAge:            timersAge,
		MaxBytes:          timersSize,
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		AllowMsgSchedules: true,
		AllowRollup:       true, // the server turns it on with schedules
		AllowDirect:       true,
		Duplicates:        duplicateWindow,
	}
}

func (c *Conn) refuseNarrowing(ctx context.Context, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	s, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return unavailable("look at stream "+want.Name, err)
	}
	have := s.CachedInfo().Config
	say := func(format string, args ...any) error {
		return ErrNarrowing.Saying(fmt.Sprintf("Stream %s: ", want.Name) + fmt.Sprintf(format, args...) +
			" Narrowing would lose or endanger what is stored; give at least what it has.")
	}
	switch {
	case have.MaxAge == 0 || want.MaxAge < have.MaxAge:
		return say("it keeps messages for %v and you asked for %v.", have.MaxAge, want.MaxAge)
	case have.MaxBytes < 0 || want.MaxBytes < have.MaxBytes:
		return say("it may take %d bytes and you asked for %d.", have.MaxBytes, want.MaxBytes)
	case want.Replicas < have.Replicas:
		return say("it has %d replicas and you asked for %d.", have.Replicas, want.Replicas)
	}
	return nil
}

func (c *Conn) provisionStream(ctx context.Context, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	if _, err := c.js.CreateOrUpdateStream(ctx, want); err != nil {
		return provisionFailed("stream "+want.Name, err)
	}
	return nil
}

func (c *Conn) provisionBucket(ctx context.Context, want jetstream.KeyValueConfig) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	have, err := c.js.Stream(ctx, "KV_"+want.Bucket)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return unavailable("look at bucket "+want.Bucket, err)
	case want.Replicas < have.CachedInfo().Config.Replicas:
		return ErrNarrowing.Saying(fmt.Sprintf("Bucket %s: it has %d replicas and you asked for %d. Give at least what it has.",
			want.Bucket, have.CachedInfo().Config.Replicas, want.Replicas))
	}
	if _, err := c.js.CreateOrUpdateKeyValue(ctx, want); err != nil {
		return provisionFailed("bucket "+want.Bucket, err)
	}
	return nil
}

func (c *Conn) provisionConsumer(ctx context.Context, want durable) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	if _, err := c.js.CreateOrUpdateConsumer(ctx, want.stream, want.config); err != nil {
		return provisionFailed("consumer "+want.config.Durable, err)
	}
	return nil
}

// provisionFailed gives the two failures that an operator can mend a sentence of their own.
func provisionFailed(what string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case errInsufficientStorage, errStorageExceeded:
			return fault.New(fault.Invalid, "no_storage",
				"NATS has too little room for "+what+". Free some disk space, or ask for a smaller ledger with --ledger-size.").Because(err)
		case errNoPeers, errInsufficientResources:
			return fault.New(fault.Invalid, "no_peers",
				"NATS has too few servers for the asked number of replicas of "+what+". Start more servers, or ask for fewer with --replicas.").Because(err)
		}
		return fmt.Errorf("provision %s: %w", what, err)
	}
	return unavailable("provision "+what, err)
}
