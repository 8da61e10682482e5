// Package backup copies all streams and buckets of a running system to a folder, and restores them
// from there.
//
// Call [Make] to make a backup. To restore it, call [Open], which verifies the files,
// [Backup.Restore], which fills an empty NATS, and [Backup.Finish], which creates what is not
// copied, after an inspection of the ledger. Sequence numbers and timestamps of the ledger's
// messages are preserved: bookings, start codes and the verification of tokens depend on them.
//
// Streams are copied one after the other while services write to them, so their order matters; see
// docs/adr/0017. A backup contains only what is in NATS. It does not contain the keys of services,
// the private keys of authsvc, the secret for start codes, or accounts in PostgreSQL.
package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// Options are the options of [Make]. The zero value is valid.
type Options struct {
	Pillion string // the version of the program, for the manifest
	// Still makes Make return ErrNotStill if services are running, or if anything is written during
	// the backup. It is for a move, in which no later write may be lost.
	Still bool
	Begin func(stream string) // is called when the server begins to copy a stream
	Each  func(Stream)        // is called when a stream has been copied
}

// Errors of [Make] about the system to copy.
var (
	ErrNotStill = fault.New(fault.Invalid, "not_still", "The system is running.")
	ErrNothing  = fault.New(fault.Invalid, "nothing_to_copy", "There is nothing to copy.")
)

// order returns the streams in the order in which they are copied. A stream that refers to another
// is copied before it, so everything that an entry refers to is in the backup too:
//
//   - The quarantine comes before the ledger, because it names sequences of the ledger. Entries
//     that it lacks are recorded again.
//   - The ledger comes before accounts, revocations and keys: the account and the key of each event
//     are in the backup, and so is each revocation for which an event was rejected.
//   - Accounts come before sessions, and both before revocations: revocations that a change of them
//     caused remain in force.
//   - The audit trail comes last, and covers everything in the other streams.
func order() []string {
	bucket := bus.BucketStream
	return []string{
		bus.QuarantineStream, bus.LedgerStream,
		bucket(bus.AccountsBucket), bucket(bus.SessionsBucket), bucket(bus.RevocationsBucket), bucket(bus.KeysBucket),
		bucket(bus.LimitsBucket), bucket(bus.FamiliarBucket), bucket(bus.RidersBucket),
		bus.AuditStream,
	}
}

// derived returns the streams that are not copied because the ledger contains all of their content
// (timers, and snapshots of boards) or because they are about running instances.
func derived() []string {
	return []string{
		bus.TimersStream, bus.BucketStream(bus.BoardsBucket), bus.BucketStream(bus.TurnsBucket),
	}
}

// Make makes a backup of the system that conn reaches, in a folder that is empty or does not exist.
// The system may be running; the backup contains every event that was acknowledged before the call.
// Errors are ErrFolder, ErrNothing, ErrNotStill, and of kind fault.Unavailable. After an error the
// folder may contain files, but [Open] rejects it.
func Make(ctx context.Context, conn *bus.Conn, path string, o Options) (Manifest, error) {
	before, err := streams(ctx, conn)
	if err != nil {
		return Manifest{}, err
	}
	if before[bus.LedgerStream] == nil {
		return Manifest{}, ErrNothing.Saying("That NATS server has none of Pillion's streams. Check --nats-url.")
	}
	if o.Still {
		if err := awaitIdle(ctx, conn, ErrNotStill); err != nil {
			return Manifest{}, err
		}
	}
	to, err := makeFolder(path)
	if err != nil {
		return Manifest{}, err
	}
	c := copier{conn: conn, to: to, begin: o.Begin}
	m := Manifest{
		Version: manifestVersion, Pillion: o.Pillion, NATS: conn.NATS().ConnectedServerVersion(),
		Began: time.Now().UTC(),
	}
	for _, name := range toCopy(before) {
		s, err := c.stream(ctx, name, before[name].State.LastSeq)
		if err != nil {
			return Manifest{}, unavailable("copy stream "+name, err)
		}
		m.Streams = append(m.Streams, s)
		if o.Each != nil {
			o.Each(s)
		}
	}
	after, err := streams(ctx, conn)
	if err != nil {
		return Manifest{}, err
	}
	changed := slices.DeleteFunc(toCopy(after), func(name string) bool {
		return before[name] != nil && before[name].State.LastSeq == after[name].State.LastSeq
	})
	if m.Still = len(changed) == 0; o.Still && !m.Still {
		return Manifest{}, ErrNotStill.Sayingf(
			"%s changed during the backup, so it may be incomplete. Stop all services and try again.",
			strings.Join(changed, ", "))
	}
	m.Ended = time.Now().UTC()
	if err := to.writeManifest(m); err != nil {
		return Manifest{}, unavailable("write the manifest", err)
	}
	return m, nil
}

// streams returns all streams by name.
func streams(ctx context.Context, conn *bus.Conn) (map[string]*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	all := map[string]*jetstream.StreamInfo{}
	list := conn.JetStream().ListStreams(ctx)
	for info := range list.Info() {
		all[info.Config.Name] = info
	}
	if err := list.Err(); err != nil {
		return nil, unavailable("list the streams", err)
	}
	return all, nil
}

// toCopy returns the names of the streams to copy, in order. Streams that this version does not
// know come last.
func toCopy(all map[string]*jetstream.StreamInfo) []string {
	var names, others []string
	for _, name := range order() {
		if all[name] != nil {
			names = append(names, name)
		}
	}
	for name := range all {
		if !slices.Contains(order(), name) && !slices.Contains(derived(), name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return append(names, others...)
}

// unavailable wraps an error that is no fault yet: the caller may try again.
func unavailable(what string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return bus.ErrUnavailable.Saying("NATS failed, or did not answer in time.").Because(fmt.Errorf("%s: %w", what, err))
}

// errRunning reports that services are running.
var errRunning = errors.New("services are running")

// idleLooks is how many checks in a row must find no service. A single one may come between two
// pull requests of a service.
const idleLooks = 4

// awaitIdle returns nil when no service is running. Services that have just stopped may seem to be
// running for a while; after that it returns otherwise with an explanation.
func awaitIdle(ctx context.Context, conn *bus.Conn, otherwise *fault.Error) error {
	idle := 0
	looks := retry.Policy{First: 100 * time.Millisecond, Longest: 100 * time.Millisecond, Within: 3 * time.Second}
	err := looks.Do(ctx, func() error {
		running, err := servicesRunning(ctx, conn)
		if err != nil {
			return retry.Permanent(err)
		}
		if idle++; running {
			idle = 0
		}
		if idle == idleLooks {
			return nil
		}
		return errRunning
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errRunning) && ctx.Err() == nil:
		return otherwise.Saying("Services are running there. Stop all of them and try again.")
	default:
		return unavailable("check for running services", err)
	}
}

// servicesRunning reports whether authsvc answers, or any instance of the other services pulls
// from its consumer.
func servicesRunning(ctx context.Context, conn *bus.Conn) (bool, error) {
	if answers, err := trust.AuthAnswers(ctx, conn); answers || err != nil {
		return answers, err
	}
	for _, name := range bus.TimersConsumers() {
		consumer, err := conn.JetStream().Consumer(ctx, bus.TimersStream, name)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return false, err
		case consumer.CachedInfo().NumWaiting > 0:
			return true, nil
		}
	}
	return false, nil
}

// A copier is a backup in progress.
type copier struct {
	conn  *bus.Conn
	to    folder
	begin func(string) // or nil
}

// errMoment reports that a copy would begin at a bad moment. It is over in an instant.
var errMoment = errors.New("the leader is behind, or a batch is half stored")

// copyMoments says how often a good moment for a copy is sought.
var copyMoments = retry.Policy{
	First: time.Millisecond, Longest: 10 * time.Millisecond, Tries: 100,
	When: func(err error) bool { return errors.Is(err, errMoment) },
}

// stream copies one stream, up to the sequence atLeast or beyond.
func (c copier) stream(ctx context.Context, name string, atLeast uint64) (Stream, error) {
	file := name + ".copy"
	w, err := c.to.create(file)
	if err != nil {
		return Stream{}, err
	}
	s := Stream{Name: name}
	s.snapshotHeader, err = retry.Get(ctx, copyMoments, func() (snapshotHeader, error) {
		return download(ctx, c.conn.NATS(), name, w, func(h snapshotHeader) error {
			if err := c.checkMoment(ctx, name, h, atLeast); err != nil {
				return err
			}
			if c.begin != nil {
				c.begin(name)
			}
			return nil
		})
	})
	if err != nil {
		return Stream{}, errors.Join(err, w.Close())
	}
	if s.Copy, err = w.finish(file); err != nil {
		return Stream{}, err
	}
	if strings.HasPrefix(name, bus.BucketStream("")) {
		err = c.tail(ctx, &s)
	}
	return s, err
}

// The headers of a message that was stored in an atomic batch.
const (
	headerBatch  = "Nats-Batch-Id"
	headerCommit = "Nats-Batch-Commit"
)

// checkMoment returns errMoment for a copy that would not reach far enough, or would end in the
// middle of a batch: the server stores the messages of a batch one by one, and may begin a copy in
// between.
func (c copier) checkMoment(ctx context.Context, name string, h snapshotHeader, atLeast uint64) error {
	if h.State.Last < atLeast {
		return errMoment
	}
	if h.State.Messages == 0 {
		return nil
	}
	last, err := c.get(ctx, name, bus.GetRequest{Seq: h.State.Last})
	// it was replaced or has expired just now; a batch's would still be there
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err == nil && last.Header.Get(headerBatch) != "" && last.Header.Get(headerCommit) == "" {
		return errMoment
	}
	return err
}

// get reads a message from the stream's leader.
func (c copier) get(ctx context.Context, stream string, r bus.GetRequest) (bus.Message, error) {
	return bus.RetryRead(ctx, c.conn, func() (bus.Message, error) { return c.conn.Get(ctx, stream, r) })
}
