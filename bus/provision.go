package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A Plan is what an operator decides about storage. Zero values take the defaults.
type Plan struct {
	LedgerAge  time.Duration // how long an event is kept; 720 h
	LedgerSize int64         // bytes that the ledger may take; 4 GiB; what else there is takes some parts of that
	AuditAge   time.Duration // how long the audit trail is kept; 2160 h
	AuditSize  int64         // bytes that it may take; 256 MiB
	Replicas   int           // copies of every stream and bucket: 1, 3 or 5
	// Disk is the disk that all of it is on. Where it has less room than the sizes come to they are less, but never less than what
	// is there has. nil: NATS has a limit of its own.
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

const (
	// What streams and buckets may take is a part of the ledger's size, between bounds. NATS sets it aside where its servers have a
	// limit (max_file_store), full or not.
	quarantineShare = 16
	boardsShare     = 4       // three of the largest board that fits the ledger
	bucketShare     = 4       // of the default, a million accounts, or logins
	countersShare   = 16      // a million and more: who has tried to log in, from where, and what was revoked
	timersShare     = 64      // a quarter of a million seconds
	bucketSize      = 1 << 30 // no bucket of accounts or logins needs more
	countersSize    = 256 << 20
	timersSize      = 64 << 20
	ridersSize      = 64 << 20 // a quarter of a million riders
	smallBucketSize = 16 << 20 // the key set is a few kilobytes
	smallestBucket  = 4 << 20
	smallestStream  = 1 << 20

	quarantineSlack = 24 * time.Hour   // and outlives the ledger: what is still there to be refused again is still recorded
	duplicateWindow = 2 * time.Minute  // longer than any retry of an append
	provisionWait   = 10 * time.Second // for one stream or bucket

	sessionsAge = 7*24*time.Hour + time.Hour // a refresh token lives for 7 days
	limitsAge   = 24 * time.Hour             // much longer than any counter matters
	familiarAge = 30 * 24 * time.Hour        // from the first login at that address
	timersAge   = 3 * 24 * time.Hour         // a deadline is a day ahead at most
	// revocationsSlack is how much longer than the ledger's events revocations are kept: a token that was issued just before it
	// was revoked may stand in an event a day later, until it has run out and the leeway with it.
	revocationsSlack = token.MaxLife + 2*token.EventLeeway
)

// ErrNarrowing refuses a plan under which something that is stored would be dropped, or kept less safely.
var ErrNarrowing = fault.New(fault.Invalid, "narrowing", "This would narrow what exists.")

// ErrLayout refuses data that another version of Pillion has laid out in another way: they would be passed over.
var ErrLayout = fault.New(fault.Invalid, "layout", "The data are those of another version of Pillion.")

// The layout of the ledger is its subjects and what its messages are like. It stands in the stream; where it does not, it is the first.
const (
	layoutKey = "pillion-layout"
	layout    = "1"
)

// checkLayout returns ErrLayout unless the ledger is one that this Pillion reads.
func checkLayout(c *jetstream.StreamConfig) error {
	if have := cmp.Or(c.Metadata[layoutKey], "1"); have != layout || !slices.Equal(c.Subjects, []string{LedgerSubjects}) {
		return ErrLayout.Saying(fmt.Sprintf("Stream %s is of another version of Pillion (layout %q on %s; this one has %q on %s). Nothing was changed. "+
			"Use that version, or a NATS without data.", c.Name, have, strings.Join(c.Subjects, ", "), layout, LedgerSubjects))
	}
	return nil
}

// withDefaults fills in what is not said.
func (p Plan) withDefaults() Plan {
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
	return p
}

// streams are what a plan makes, the ledger first.
func (p Plan) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{ledgerConfig(p), quarantineConfig(p), auditConfig(p), timersConfig(p)}
}

// buckets are what a plan makes besides, in the order of [Buckets].
func (p Plan) buckets() []jetstream.KeyValueConfig {
	bucket := func(name, description string, size int64, age time.Duration) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, Description: description, MaxBytes: size, TTL: age, Replicas: p.Replicas, Storage: jetstream.FileStorage,
		}
	}
	accounts, counters := p.part(bucketShare, smallestBucket, bucketSize), p.part(countersShare, smallestBucket, countersSize)
	keys := bucket(KeysBucket, "the public keys that verify tokens", smallBucketSize, 0)
	keys.History = 8
	return []jetstream.KeyValueConfig{
		bucket(AccountsBucket, "accounts, by hash of email and role", accounts, 0),
		keys,
		bucket(SessionsBucket, "logins, by hash of their refresh tokens' family", accounts, sessionsAge),
		bucket(RevocationsBucket, "tokens that were taken back", counters, p.LedgerAge+revocationsSlack),
		bucket(LimitsBucket, "how often somebody has tried to log in, by hash", counters, limitsAge),
		bucket(FamiliarBucket, "from where accounts were logged in to, by hash", counters, familiarAge),
		bucket(BoardsBucket, "snapshots of boards, which may be deleted at any time", p.part(boardsShare, smallBucketSize, math.MaxInt64), 0),
		bucket(RidersBucket, "riders who have said to be offline, or online again", p.part(timersShare, smallestBucket, ridersSize), 0),
	}
}

// part is a part of the ledger's size, between bounds.
func (p Plan) part(share, least, most int64) int64 { return min(max(p.LedgerSize/share, least), most) }

// needs is how many bytes all of it may take, on each server that has a copy.
func (p Plan) needs() (sum int64) {
	for _, s := range p.streams() {
		sum += s.MaxBytes
	}
	for _, b := range p.buckets() {
		sum += b.MaxBytes
	}
	return sum
}

// onDisk returns the plan that its disk has room for: with less of the audit trail, and then with less of everything.
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

// Provision makes the streams, buckets and the consumers that services share, or widens those that are there. It has one owner at a time: the pillion program for
// its embedded server, an operator's `pillion provision` for any other. It refuses, with ErrNarrowing and before it changes
// anything, to shorten an age, lessen a size or lower the number of replicas.
func Provision(ctx context.Context, c *Conn, p Plan) error {
	asked := p.withDefaults()
	p = asked.onDisk()
	if p.LedgerSize < asked.LedgerSize {
		c.log.Info("the disk has room for a smaller ledger than was asked for", "bytes", p.LedgerSize, "asked", asked.LedgerSize)
	}
	streams := p.streams()
	for i := range streams {
		most := int64(math.MaxInt64) // nobody asks for it
		switch streams[i].Name {
		case LedgerStream:
			most = asked.LedgerSize
		case AuditStream:
			most = asked.AuditSize
		}
		if err := c.refuseNarrowing(ctx, &streams[i], most); err != nil {
			return err
		}
	}
	fresh, err := c.isFresh(ctx)
	if err != nil {
		return err
	}
	for _, want := range streams {
		if err := c.provisionStream(ctx, want, p); err != nil {
			return errors.Join(err, c.undo(ctx, fresh, err))
		}
	}
	for _, want := range p.buckets() {
		if err := c.provisionBucket(ctx, want, p); err != nil {
			return errors.Join(err, c.undo(ctx, fresh, err))
		}
	}
	for _, want := range durables() {
		if err := c.provisionConsumer(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// isFresh reports whether there is no ledger yet.
func (c *Conn) isFresh(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	_, err := c.js.Stream(ctx, LedgerStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return true, nil
	}
	if err != nil {
		return false, Unavailable("look at the ledger", err)
	}
	return false, nil
}

// undo takes away an empty ledger that was made a moment ago, where there was too little room for what belongs to it: so a smaller one
// can be asked for, which would be refused as a narrowing.
func (c *Conn) undo(ctx context.Context, fresh bool, why error) error {
	var f *fault.Error
	if !fresh || !errors.As(why, &f) || f.Code != noStorage {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	for _, name := range []string{LedgerStream, AuditStream} {
		s, err := c.js.Stream(ctx, name)
		if err != nil || s.CachedInfo().State.Msgs > 0 {
			continue
		}
		if err := c.js.DeleteStream(ctx, name); err != nil {
			return Unavailable("take away stream "+name, err)
		}
	}
	return nil
}

// noStorage is the code of the fault that NATS has too little room.
const noStorage = "no_storage"

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
	return c.look(ctx, last.stream, func() error {
		_, err := c.js.Consumer(ctx, last.stream, last.config.Durable)
		return err
	})
}

// HasLedger returns nil when the server has a ledger, of whatever version, and otherwise what Provisioned does.
func (c *Conn) HasLedger(ctx context.Context) error {
	return c.look(ctx, LedgerStream, func() error {
		_, err := c.js.Stream(ctx, LedgerStream)
		return err
	})
}

// look says what it means that something could not be found.
func (c *Conn) look(ctx context.Context, stream string, find func() error) error {
	if !c.state.isUp() {
		return ErrDown // and do not wait for an answer that cannot come
	}
	switch err := find(); {
	case err == nil:
		ledger, err := c.Stream(ctx, LedgerStream)
		if err != nil {
			return err
		}
		return checkLayout(&ledger.CachedInfo().Config)
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return ErrNotProvisioned
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return ErrNoJetStream.Because(err)
	default:
		return Unavailable("look at stream "+stream, err)
	}
}

// ledgerConfig is the ledger. With one message a subject and new ones discarded, no publisher can overwrite or shadow a stored
// event, alone or in a batch; deletes and purges are denied to everybody.
func ledgerConfig(p Plan) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 LedgerStream,
		Description:          "what happened to every booking: the only truth",
		Subjects:             []string{LedgerSubjects},
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
		Metadata:             map[string]string{layoutKey: layout},
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
		MaxBytes:          p.part(quarantineShare, smallestStream, math.MaxInt64),
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
		MaxBytes:          p.part(timersShare, smallestStream, timersSize),
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		AllowMsgSchedules: true,
		AllowRollup:       true, // the server turns it on with schedules
		AllowDirect:       true,
		Duplicates:        duplicateWindow,
	}
}

// refuseNarrowing returns ErrNarrowing where a stream keeps more than is asked for. One that may take more bytes than is wanted of it, and
// not more than were asked for, keeps them.
func (c *Conn) refuseNarrowing(ctx context.Context, want *jetstream.StreamConfig, asked int64) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	s, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return Unavailable("look at stream "+want.Name, err)
	}
	have := s.CachedInfo().Config
	if have.Name == LedgerStream {
		if err := checkLayout(&have); err != nil {
			return err
		}
	}
	say := func(format string, args ...any) error {
		return ErrNarrowing.Saying(fmt.Sprintf("Stream %s: ", want.Name) + fmt.Sprintf(format, args...) +
			" Narrowing would lose or endanger what is stored; give at least what it has.")
	}
	switch {
	case have.MaxAge == 0 || want.MaxAge < have.MaxAge:
		return say("it keeps messages for %v and you asked for %v.", have.MaxAge, want.MaxAge)
	case have.MaxBytes < 0 || asked < have.MaxBytes:
		return say("it may take %d bytes and you asked for %d.", have.MaxBytes, asked)
	case want.Replicas < have.Replicas:
		return say("it has %d replicas and you asked for %d.", have.Replicas, want.Replicas)
	}
	want.MaxBytes = max(want.MaxBytes, have.MaxBytes)
	return nil
}

func (c *Conn) provisionStream(ctx context.Context, want jetstream.StreamConfig, p Plan) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	if _, err := c.js.CreateOrUpdateStream(ctx, want); err != nil {
		return provisionFailed("stream "+want.Name, p, err)
	}
	return nil
}

func (c *Conn) provisionBucket(ctx context.Context, want jetstream.KeyValueConfig, p Plan) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	have, err := c.js.Stream(ctx, "KV_"+want.Bucket)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return Unavailable("look at bucket "+want.Bucket, err)
	case want.Replicas < have.CachedInfo().Config.Replicas:
		return ErrNarrowing.Saying(fmt.Sprintf("Bucket %s: it has %d replicas and you asked for %d. Give at least what it has.",
			want.Bucket, have.CachedInfo().Config.Replicas, want.Replicas))
	default:
		want.MaxBytes = max(want.MaxBytes, have.CachedInfo().Config.MaxBytes)
	}
	if _, err := c.js.CreateOrUpdateKeyValue(ctx, want); err != nil {
		return provisionFailed("bucket "+want.Bucket, p, err)
	}
	return nil
}

func (c *Conn) provisionConsumer(ctx context.Context, want durable) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	if _, err := c.js.CreateOrUpdateConsumer(ctx, want.stream, want.config); err != nil {
		return provisionFailed("consumer "+want.config.Durable, Plan{}, err)
	}
	return nil
}

// provisionFailed gives the two failures that an operator can mend a sentence of their own.
func provisionFailed(what string, p Plan, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch {
		case api.ErrorCode == codeInsufficientStorage, api.ErrorCode == codeNoPeers && strings.Contains(api.Description, "storage"):
			return fault.New(fault.Invalid, noStorage, fmt.Sprintf("NATS has too little room for %s. All streams and buckets together "+
				"need %d MiB on each server, as its max_file_store, which is three quarters of what is free unless it is set. Raise that, or ask for less "+
				"with --ledger-size and --audit-size.", what, (p.needs()+1<<20-1)>>20)).Because(err)
		case api.ErrorCode == codeNoPeers, api.ErrorCode == codeInsufficientResources:
			return fault.New(fault.Invalid, "no_peers",
				"NATS has too few servers for the asked number of replicas of "+what+". Start more servers, or ask for fewer with --replicas.").Because(err)
		}
		return fmt.Errorf("provision %s: %w", what, err)
	}
	return Unavailable("provision "+what, err)
}
