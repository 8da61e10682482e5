// Package backup copies all streams and buckets of a running system to a folder, and makes a system of such a folder again.
//
// [Make] makes a backup. [Open] opens one that is whole, [Backup.Restore] fills an empty NATS from it, and [Backup.Finish], when somebody has
// inspected the ledger, makes what is not copied. Sequence numbers and times of the ledger's messages stay as they are, for bookings, start codes and the judgement of
// tokens rest upon them.
//
// Streams are copied one after the other while the system writes, so the order matters: see [order], and docs/adr/0017. What is not in NATS is
// not in a backup: the keys of services, the private keys of authsvc, the secret of rides, and accounts in PostgreSQL.
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
)

// Options are what somebody wants of a backup. The zero value is good.
type Options struct {
	Pillion string // the version of the program, for the manifest
	// Still refuses with ErrNotStill where services are at work, or anything is written while the backup is made: nothing that comes after it is
	// to be lost.
	Still bool
	Begin func(stream string) // is told of each stream when the server has begun to copy it
	Each  func(Stream)        // is told of each that has been copied
}

// What can be wrong with the system that is copied.
var (
	ErrNotStill = fault.New(fault.Invalid, "not_still", "The system is at work.")
	ErrNothing  = fault.New(fault.Invalid, "nothing_to_copy", "There is nothing to copy.")
)

// order is the order in which streams are copied: what is judged comes before what it is judged by, and what is repeated by itself before what it
// is about. So whatever is in a stream of a backup finds in the later ones at least what it had when it was written:
//
//   - The quarantine comes before the ledger, for it names sequences of it. What of it is missing is recorded again.
//   - The ledger comes before accounts, revocations and keys: no event is without its account or key, and none is believed that was refused.
//   - Accounts come before sessions, and both before revocations: what was taken back when they changed stays so.
//   - The audit trail is last, and tells of all that is in the others.
func order() []string {
	return []string{
		bus.QuarantineStream, bus.LedgerStream,
		bus.BucketStream(bus.AccountsBucket), bus.BucketStream(bus.SessionsBucket), bus.BucketStream(bus.RevocationsBucket), bus.BucketStream(bus.KeysBucket),
		bus.BucketStream(bus.LimitsBucket), bus.BucketStream(bus.FamiliarBucket), bus.BucketStream(bus.RidersBucket),
		bus.AuditStream,
	}
}

// derived are the streams that are not copied, since all that is in them comes from the ledger: timers, and snapshots of boards.
func derived() []string { return []string{bus.TimersStream, bus.BucketStream(bus.BoardsBucket)} }

// Make makes a backup of the system that conn reaches, in a folder that is empty or not there yet. It may be made beside everything else; every event that was
// acknowledged before is in it. Errors: ErrFolder, ErrNothing, ErrNotStill, and of kind fault.Unavailable. What it leaves behind after an error is no
// backup for [Open].
func Make(ctx context.Context, conn *bus.Conn, path string, o Options) (Manifest, error) {
	before, err := streams(ctx, conn)
	if err != nil {
		return Manifest{}, err
	}
	if before[bus.LedgerStream] == nil {
		return Manifest{}, ErrNothing.Saying("There is no system on that NATS server: its streams were never made. See that --nats-url is right.")
	}
	if o.Still {
		if err := atRest(ctx, conn, ErrNotStill); err != nil {
			return Manifest{}, err
		}
	}
	to, err := makeFolder(path)
	if err != nil {
		return Manifest{}, err
	}
	c := copying{conn: conn, to: to, begin: o.Begin}
	m := Manifest{Version: manifestVersion, Pillion: o.Pillion, NATS: conn.NATS().ConnectedServerVersion(), Began: time.Now().UTC()}
	for _, name := range toCopy(before) {
		s, err := c.stream(ctx, name, before[name].State.LastSeq)
		if err != nil {
			return Manifest{}, failed("copy stream "+name, err)
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
	moved := slices.DeleteFunc(toCopy(after), func(name string) bool {
		return before[name] != nil && before[name].State.LastSeq == after[name].State.LastSeq
	})
	if m.Still = len(moved) == 0; o.Still && !m.Still {
		return Manifest{}, ErrNotStill.Saying(fmt.Sprintf("Something was written to %s while the backup was made, so it may lack something. Stop all services, and make it again.", strings.Join(moved, ", ")))
	}
	m.Ended = time.Now().UTC()
	if err := to.seal(m); err != nil {
		return Manifest{}, failed("write the manifest", err)
	}
	return m, nil
}

// streams returns all streams that there are.
func streams(ctx context.Context, conn *bus.Conn) (map[string]*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	all := map[string]*jetstream.StreamInfo{}
	list := conn.JetStream().ListStreams(ctx)
	for info := range list.Info() {
		all[info.Config.Name] = info
	}
	if err := list.Err(); err != nil {
		return nil, failed("list the streams", err)
	}
	return all, nil
}

// toCopy returns which streams are copied of those that there are, in order: at last those that this program does not know.
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

// failed is what a failure is for the caller, which may try again.
func failed(what string, err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return bus.ErrUnavailable.Saying("NATS could not do it, or not in time.").Because(fmt.Errorf("%s: %w", what, err))
}

const (
	// restPatience is how long services that were just stopped may still seem to be there.
	restPatience = 3 * time.Second
	// restLooks is how often in a row nobody must be seen: between one request for work and the next a service is not.
	restLooks = 4
)

// atRest returns nil when no service is at work, and else otherwise with a sentence.
func atRest(ctx context.Context, conn *bus.Conn, otherwise *fault.Error) error {
	end := time.After(restPatience)
	tick := time.NewTicker(restPatience / 30)
	defer tick.Stop()
	for quiet := 0; ; {
		busy, err := atWork(ctx, conn)
		if err != nil {
			return failed("see whether services are at work", err)
		}
		if quiet++; busy {
			quiet = 0
		}
		if quiet == restLooks {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return otherwise.Saying("Services are at work there. Stop all of them, and try again.")
		case <-ctx.Done():
			return failed("see whether services are at work", ctx.Err())
		}
	}
}

// atWork reports whether authsvc answers, or anybody waits for work that the others do.
func atWork(ctx context.Context, conn *bus.Conn) (bool, error) {
	if answers, err := trust.AuthAnswers(ctx, conn); answers || err != nil {
		return answers, err
	}
	for _, shared := range [][2]string{
		{bus.LedgerStream, bus.FeedConsumer}, {bus.LedgerStream, bus.DeadlinesConsumer}, {bus.TimersStream, bus.TimersConsumer},
	} {
		consumer, err := conn.JetStream().Consumer(ctx, shared[0], shared[1])
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			continue
		case err != nil:
			return false, err
		case consumer.CachedInfo().NumWaiting > 0:
			return true, nil
		}
	}
	return false, nil
}

// A copying is a backup under way.
type copying struct {
	conn  *bus.Conn
	to    folder
	begin func(string) // or nil
}

const cutTries = 100

// stream copies one stream, which reaches at least a sequence.
func (c copying) stream(ctx context.Context, name string, atLeast uint64) (Stream, error) {
	file := name + ".copy"
	w, err := c.to.create(file)
	if err != nil {
		return Stream{}, err
	}
	s := Stream{Name: name}
	for try := 0; ; try++ {
		var ok bool
		s.cut, ok, err = download(ctx, c.conn.NATS(), name, w, func(x cut) (bool, error) {
			good, err := c.whole(ctx, name, x, atLeast)
			if good && c.begin != nil {
				c.begin(name)
			}
			return good, err
		})
		if err == nil && !ok && try < cutTries {
			continue // in the middle of a batch, which is over in a moment
		}
		if err == nil && !ok {
			err = errors.New("no moment was found without a batch that is half stored, or a leader that is behind")
		}
		if err != nil {
			return Stream{}, errors.Join(err, w.Close())
		}
		break
	}
	if s.Copy, err = w.finish(file); err != nil {
		return Stream{}, err
	}
	if strings.HasPrefix(name, bus.BucketStream("")) {
		err = c.tail(ctx, &s)
	}
	return s, err
}

// The headers of a message that was stored with others, all or none.
const (
	headerBatch  = "Nats-Batch-Id"
	headerCommit = "Nats-Batch-Commit"
)

// whole reports whether a copy reaches as far as it must, and does not end in the middle of a batch: the server stores its messages one after the
// other, and begins a copy in between if it so happens.
func (c copying) whole(ctx context.Context, name string, x cut, atLeast uint64) (bool, error) {
	if x.State.Last < atLeast {
		return false, nil
	}
	if x.State.Messages == 0 {
		return true, nil
	}
	last, err := get(ctx, c.conn.NATS(), name, x.State.Last, false)
	if errors.Is(err, errNone) { // replaced or aged just now: a batch's would be there
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return last.Header.Get(headerBatch) == "" || last.Header.Get(headerCommit) != "", nil
}
