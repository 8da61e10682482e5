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
)

const provisionWait = 10 * time.Second // for one stream, bucket or consumer

// ErrNarrowing refuses a plan that would drop stored data, or keep them less safely.
var ErrNarrowing = fault.New(fault.Invalid, "narrowing", "This would narrow what exists.")

// ErrLayout refuses data that another version of Pillion has laid out differently. This version
// would overlook them.
var ErrLayout = fault.New(fault.Invalid, "layout", "The data are those of another version of Pillion.")

// The layout is the version of the ledger's subjects and messages, kept in the stream's metadata. A
// stream without it has layout 1.
const (
	layoutKey = "pillion-layout"
	layout    = "1"
)

// checkLayout returns ErrLayout unless this version can read the ledger.
func checkLayout(c *jetstream.StreamConfig) error {
	if have := cmp.Or(c.Metadata[layoutKey], "1"); have != layout ||
		!slices.Equal(c.Subjects, []string{LedgerSubjects}) {
		return ErrLayout.Sayingf("Stream %s is of another version of Pillion (layout %q on %s; this "+
			"one has %q on %s). Nothing was changed. "+
			"Use that version, or a NATS without data.", c.Name, have, strings.Join(c.Subjects, ", "), layout,
			LedgerSubjects)
	}
	return nil
}

// Provision creates the streams, buckets and shared consumers, or widens existing ones. One process
// at a time may call it: the pillion program for its embedded server, `pillion provision` for any
// other. It returns ErrNarrowing, before it changes anything, where the plan has a shorter age, a
// smaller size or fewer replicas than an existing stream.
func Provision(ctx context.Context, c *Conn, p Plan) error {
	asked := p.withDefaults()
	p = asked.onDisk()
	if p.LedgerSize < asked.LedgerSize {
		c.log.Info("the ledger is smaller than asked for, to fit the disk", "bytes", p.LedgerSize, "asked",
			asked.LedgerSize)
	}
	streams := p.streams()
	for i := range streams {
		most := int64(math.MaxInt64) // operators do not choose the size of the others
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
	for _, name := range TimersConsumers() {
		if err := c.provisionConsumer(ctx, TimersStream, timersConsumer(name)); err != nil {
			return err
		}
	}
	for _, want := range p.buckets() {
		if err := c.provisionBucket(ctx, want, p); err != nil {
			return errors.Join(err, c.undo(ctx, fresh, err))
		}
	}
	return c.provisionTurns(ctx)
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

// undo deletes the streams that this call has just created, where NATS had too little room for the
// rest. Otherwise a second call with smaller sizes would be refused as narrowing.
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
			return Unavailable("delete stream "+name, err)
		}
	}
	return nil
}

// noStorage is the code of the error that NATS has too little room.
const noStorage = "no_storage"

// Errors of servers that are not ready for Pillion.
var (
	ErrNotProvisioned = fault.New(fault.Unavailable, "not_provisioned",
		"The streams are not there yet: run pillion provision. If they should be there, see that --nats-url is "+
			"right.").After(2 * time.Second)
	ErrNoJetStream = fault.New(fault.Unavailable, "no_jetstream",
		"The NATS server has no JetStream, or none that works at the moment. See that it is switched on, and "+
			"that most servers of a cluster are running.").After(2 * time.Second)
)

// Provisioned returns nil once everything exists that Provision creates. Errors that tell operators
// what to do: ErrNotProvisioned, ErrNoJetStream, ErrLayout.
func (c *Conn) Provisioned(ctx context.Context) error {
	last := BucketStream(TurnsBucket) // what Provision creates last, and older versions do not
	return c.look(ctx, last, func() error {
		_, err := c.js.Stream(ctx, last)
		return err
	})
}

// HasLedger returns nil when the server has a ledger that this version can read. Errors are those
// of Provisioned.
func (c *Conn) HasLedger(ctx context.Context) error {
	return c.look(ctx, LedgerStream, func() error {
		_, err := c.js.Stream(ctx, LedgerStream)
		return err
	})
}

// HasTimers returns nil when the consumer of timers of that name exists. Errors are those of
// Provisioned.
func (c *Conn) HasTimers(ctx context.Context, name string) error {
	return c.look(ctx, TimersStream, func() error {
		_, err := c.js.Consumer(ctx, TimersStream, name)
		return err
	})
}

// look explains why find has found nothing.
func (c *Conn) look(ctx context.Context, stream string, find func() error) error {
	if !c.IsUp() {
		return ErrDown // do not wait for an answer that cannot come
	}
	switch err := find(); {
	case err == nil:
		ledger, err := c.Stream(ctx, LedgerStream)
		if err != nil {
			return err
		}
		return checkLayout(&ledger.CachedInfo().Config)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		return ErrNotProvisioned
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return ErrNoJetStream.Because(err)
	default:
		return Unavailable("look at stream "+stream, err)
	}
}

// refuseNarrowing returns ErrNarrowing where an existing stream keeps more than the plan asks for.
// A stream between the wanted and the asked size keeps its size.
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
		return ErrNarrowing.Sayingf("Bucket %s: it has %d replicas and you asked for %d. Give at "+
			"least what it has.",
			want.Bucket, have.CachedInfo().Config.Replicas, want.Replicas)
	default:
		want.MaxBytes = max(want.MaxBytes, have.CachedInfo().Config.MaxBytes)
	}
	if _, err := c.js.CreateOrUpdateKeyValue(ctx, want); err != nil {
		return provisionFailed("bucket "+want.Bucket, p, err)
	}
	return nil
}

func (c *Conn) provisionConsumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	if _, err := c.js.CreateOrUpdateConsumer(ctx, stream, want); err != nil {
		return provisionFailed("consumer "+want.Durable, Plan{}, err)
	}
	return nil
}

// provisionFailed explains the two failures that an operator can mend.
func provisionFailed(what string, p Plan, err error) error {
	switch {
	case LacksStorage(err):
		return fault.New(fault.Invalid, noStorage,
			fmt.Sprintf("NATS has too little room for %s. All streams and buckets together "+
				"need %d MiB on each server, as its max_file_store, which is three quarters of what is free unless it is set. Raise that, or ask for less "+
				"with --ledger-size and --audit-size.", what, (p.needs()+1<<20-1)>>20)).Because(err)
	case LacksServers(err):
		return fault.New(fault.Invalid, "no_peers",
			"NATS has too few servers for the asked number of replicas of "+what+". Start more servers, or "+
				"ask for fewer with --replicas.").Because(err)
	case APIError(err).ErrorCode != 0:
		return fmt.Errorf("provision %s: %w", what, err)
	}
	return Unavailable("provision "+what, err)
}
