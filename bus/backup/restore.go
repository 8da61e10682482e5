package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// RestoreOptions are what somebody wants of a restored system. The zero value is good.
type RestoreOptions struct {
	Replicas int // of every stream and bucket; 0: as many as they had
	// KeepSessions lets everybody stay logged in. It is only right where nothing has run since the backup was made: else a refresh token that
	// was used since would be good again, for whoever has stolen it, and the one that came after it for nobody.
	KeepSessions bool
	Each         func(Stream) // is told of each stream that has been restored
}

// ErrNotEmpty refuses to restore over anything.
var ErrNotEmpty = fault.New(fault.Invalid, "not_empty", "There is something already.")

// Restore fills the NATS that conn reaches with the streams of the backup. It must have none, or empty ones, and no service may be at work there. Restored are
// neither the consumers nor what comes from the ledger: see [Backup.Finish].
//
// Errors: ErrNotEmpty, and of kind fault.Unavailable. After an error nothing is left of what it has restored, unless NATS does not answer any more.
func (b *Backup) Restore(ctx context.Context, conn *bus.Conn, o RestoreOptions) (err error) {
	empty, err := b.vacant(ctx, conn)
	if err != nil {
		return err
	}
	for _, name := range empty {
		if err := conn.JetStream().DeleteStream(ctx, name); err != nil {
			return failed("delete the empty stream "+name, err)
		}
	}
	var begun []string
	defer func() {
		if err != nil {
			err = errors.Join(err, undo(ctx, conn, begun))
		}
	}()
	for _, s := range b.Streams {
		if s.Name == bus.BucketStream(bus.SessionsBucket) && !o.KeepSessions {
			continue // Finish makes it
		}
		err := b.stream(ctx, conn, s, o.Replicas)
		if !isRefusal(err, errNameInUse) { // which somebody else has made this moment, and so is not ours to delete
			begun = append(begun, s.Name)
		}
		if err != nil {
			return restoreFailed(s, err)
		}
		if o.Each != nil {
			o.Each(s)
		}
	}
	return nil
}

// vacant returns the streams that are there and empty, or ErrNotEmpty.
func (b *Backup) vacant(ctx context.Context, conn *bus.Conn) ([]string, error) {
	there, err := streams(ctx, conn)
	if err != nil {
		return nil, err
	}
	var empty, full []string
	for name, info := range there {
		if info.State.Msgs > 0 || info.State.LastSeq > 0 {
			full = append(full, name)
		} else {
			empty = append(empty, name)
		}
	}
	slices.Sort(full)
	if len(full) > 0 {
		return nil, ErrNotEmpty.Saying(fmt.Sprintf(
			"Nothing was restored, for there is something in %s already. Restore into a NATS without data: a new one, or delete all streams there if nobody needs them.", strings.Join(full, ", ")))
	}
	return empty, atRest(ctx, conn, ErrNotEmpty)
}

// undo deletes what was restored, so that it can be tried again.
func undo(ctx context.Context, conn *bus.Conn, names []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
	defer cancel()
	var failures []error
	for _, name := range names {
		if err := conn.JetStream().DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			failures = append(failures, fmt.Errorf("delete stream %s, which is incomplete: %w", name, err))
		}
	}
	return errors.Join(failures...)
}

// Codes of the server for what an operator can mend.
const (
	errNameInUse           = 10130
	errNoPeers             = 10005
	errInsufficient        = 10023
	errInsufficientStorage = 10047
	errMemoryExceeded      = 10028
	errStorageExceeded     = 10049
)

// errRestoreFailed is its code for whatever else has stopped it.
const errRestoreFailed = 10062

func isRefusal(err error, code jetstream.ErrorCode) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode == code
}

func restoreFailed(s Stream, err error) error {
	name := s.Name
	var refusal *jetstream.APIError
	if errors.As(err, &refusal) {
		switch refusal.ErrorCode {
		case errNameInUse:
			return ErrNotEmpty.Saying("Somebody else has made stream " + name + " there meanwhile, so the system there is not complete. See who, delete its streams, and try again.").Because(err)
		case errNoPeers, errInsufficient:
			return fault.New(fault.Invalid, "no_peers", "NATS has too few servers for the asked number of replicas. Start more servers, or ask for fewer with --replicas.").Because(err)
		case errInsufficientStorage, errStorageExceeded, errMemoryExceeded:
			var c jetstream.StreamConfig
			_ = json.Unmarshal(s.Config, &c) // the server has read it before
			return fault.New(fault.Invalid, "no_storage", fmt.Sprintf("NATS has too little room for stream %s, which may take %d MiB on each server. Raise "+
				"max_file_store there, which is three quarters of what is free unless it is set.", name, (max(c.MaxBytes, 0)+1<<20-1)>>20)).Because(err)
		}
	}
	return failed("restore stream "+name, err)
}

// stream restores one stream, and returns when all of its replicas have it.
func (b *Backup) stream(ctx context.Context, conn *bus.Conn, s Stream, replicas int) error {
	if replicas > 0 {
		config, err := withReplicas(s.Config, replicas)
		if err != nil {
			return err
		}
		s.Config = config
	}
	if err := b.copied(ctx, conn, s); err != nil {
		return err
	}
	if s.Tail != nil {
		if err := b.tail(ctx, conn, s); err != nil {
			return fmt.Errorf("what was written meanwhile: %w", err)
		}
	}
	return replicated(ctx, conn, s.Name)
}

// copyTries is how often a server may fail to make a stream.
const copyTries = 3

// copied makes the stream of its copy. The server may fail at it and succeed a moment later: when the last stream of an account is deleted, it removes the
// account's folder in the background, and so perhaps below the hands of what makes the next stream there (stream.stop in nats-server).
func (b *Backup) copied(ctx context.Context, conn *bus.Conn, s Stream) error {
	file, err := b.open(s.Copy)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		err := upload(ctx, conn.NATS(), s.Name, s.cut, file)
		if !isRefusal(err, errRestoreFailed) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, errors.Join(err, undo(ctx, conn, []string{s.Name}))
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxTries(copyTries))
	return err
}

// withReplicas changes the number of replicas, and nothing else, whatever else there is.
func withReplicas(config json.RawMessage, replicas int) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	fields["num_replicas"] = json.RawMessage(fmt.Sprint(replicas))
	return json.Marshal(fields)
}

// tail writes to a bucket again what was written to it while it was copied.
func (b *Backup) tail(ctx context.Context, conn *bus.Conn, s Stream) error {
	file, err := b.open(*s.Tail)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	lines := json.NewDecoder(file)
	for {
		var line message
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		stored, cancel := context.WithTimeout(ctx, askPatience)
		_, err := conn.JetStream().PublishMsg(stored, line.publish(), jetstream.WithExpectStream(s.Name))
		cancel()
		if err != nil {
			return err
		}
	}
}

// replicated waits until all replicas of a stream have what its leader has.
func replicated(ctx context.Context, conn *bus.Conn, name string) error {
	tick := time.NewTicker(50 * time.Millisecond) // the server has no event for it
	defer tick.Stop()
	for {
		s, err := conn.JetStream().Stream(ctx, name)
		if err == nil {
			if c := s.CachedInfo().Cluster; c == nil || c.Leader != "" && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline }) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the replicas of %s do not have it yet: %w", name, ctx.Err()), err)
		}
	}
}

// Finish makes what is not copied: timers, snapshots of boards, and the consumers that services share. What has yet to expire, or to be looked after, comes from
// board, which is what an inspection has made of the restored ledger: deadlines are armed anew. Then the services may be started.
func (b *Backup) Finish(ctx context.Context, conn *bus.Conn, all *board.Board) error {
	p, err := b.plan(ctx, conn)
	if err != nil {
		return err
	}
	if err := bus.Provision(ctx, conn, p); err != nil {
		return err
	}
	from := dutiesFrom(all)
	if _, err := conn.JetStream().ResetConsumerToSequence(ctx, bus.LedgerStream, bus.DeadlinesConsumer, from); err != nil {
		return failed("set the consumer of deadlines", err)
	}
	return nil
}

// dutiesFrom returns the sequence from which events of the ledger may call for something still: the first one by which a booking was opened that waits for
// a rider, or whose rider is on the way or at the pickup.
func dutiesFrom(all *board.Board) uint64 {
	from := all.Seq() + 1
	for _, open := range all.Newest(all.Len(), 0, board.InState(booking.StateOpen, booking.StateAccepted, booking.StateArrived)) {
		from = min(from, open.OpenedSeq)
	}
	return from
}

// plan returns how the restored streams are provisioned: as they are.
func (b *Backup) plan(ctx context.Context, conn *bus.Conn) (bus.Plan, error) {
	var p bus.Plan
	for name, of := range map[string]func(jetstream.StreamConfig){
		bus.LedgerStream: func(c jetstream.StreamConfig) {
			p.LedgerAge, p.LedgerSize, p.Replicas = c.MaxAge, c.MaxBytes, c.Replicas
		},
		bus.AuditStream: func(c jetstream.StreamConfig) { p.AuditAge, p.AuditSize = c.MaxAge, c.MaxBytes },
	} {
		s, err := conn.JetStream().Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return bus.Plan{}, failed("look at stream "+name, err)
		}
		of(s.CachedInfo().Config)
	}
	return p, nil
}

// Compare returns what of the restored streams is not as the manifest says, a sentence each. What has aged since is as it should be.
func (b *Backup) Compare(ctx context.Context, conn *bus.Conn, o RestoreOptions) ([]string, error) {
	there, err := streams(ctx, conn)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, s := range b.Streams {
		if s.Name == bus.BucketStream(bus.SessionsBucket) && !o.KeepSessions {
			continue
		}
		info := there[s.Name]
		if info == nil {
			wrong = append(wrong, fmt.Sprintf("Stream %s is not there.", s.Name))
			continue
		}
		have, last := info.State, s.State.Last
		if s.Tail != nil {
			last += uint64(s.Tail.Messages)
		}
		if have.LastSeq != last {
			wrong = append(wrong, fmt.Sprintf("Stream %s ends at %d, and should at %d.", s.Name, have.LastSeq, last))
		}
		if o.Replicas > 0 && info.Config.Replicas != o.Replicas {
			wrong = append(wrong, fmt.Sprintf("Stream %s has %d replicas, and should have %d.", s.Name, info.Config.Replicas, o.Replicas))
		}
		// Of the ledger nothing goes but by age, which is from its beginning on.
		if aged := max(have.FirstSeq, s.State.First) - s.State.First; s.Name == bus.LedgerStream && have.Msgs+aged != s.State.Messages {
			wrong = append(wrong, fmt.Sprintf("Stream %s has %d messages, and should have %d.", s.Name, have.Msgs, s.State.Messages-aged))
		}
	}
	return wrong, nil
}
