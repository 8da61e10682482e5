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

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// RestoreOptions are the options of [Backup.Restore] and [Backup.Compare]. The zero value is valid.
type RestoreOptions struct {
	Replicas int // of every stream and bucket; 0: as in the backup
	// KeepSessions restores sessions, so that everybody stays logged in. Use it only if the system
	// has not run since the backup. Otherwise it makes a used refresh token valid again, for a
	// thief as well, and its successor invalid.
	KeepSessions bool
	Each         func(Stream) // is called when a stream has been restored
}

// ErrNotEmpty reports that the NATS to restore to is in use.
var ErrNotEmpty = fault.New(fault.Invalid, "not_empty", "NATS contains data already.")

// Restore creates the streams of the backup on the NATS that conn reaches. Existing streams there
// must be empty, and no service may be running. [Backup.Finish] creates consumers, and what is
// derived from the ledger.
//
// Errors are ErrNotEmpty, and of kind fault.Unavailable. After an error Restore deletes what it has
// restored, unless NATS no longer answers.
func (b *Backup) Restore(ctx context.Context, conn *bus.Conn, o RestoreOptions) (err error) {
	empty, err := b.emptyStreams(ctx, conn)
	if err != nil {
		return err
	}
	for _, name := range empty {
		if err := conn.JetStream().DeleteStream(ctx, name); err != nil {
			return unavailable("delete the empty stream "+name, err)
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
			continue // Finish creates it
		}
		err := b.stream(ctx, conn, s, o.Replicas)
		// of a stream that somebody else created just now, which undo must not delete
		if !isRefusal(err, errNameInUse) {
			begun = append(begun, s.Name)
		}
		if err != nil {
			return restoreError(s, err)
		}
		if o.Each != nil {
			o.Each(s)
		}
	}
	return nil
}

// emptyStreams returns the existing streams, or ErrNotEmpty if any of them has had a message.
func (b *Backup) emptyStreams(ctx context.Context, conn *bus.Conn) ([]string, error) {
	there, err := streams(ctx, conn)
	if err != nil {
		return nil, err
	}
	var empty, full []string
	for name, info := range there {
		// what Provision has written there is not in use
		if name != bus.BucketStream(bus.TurnsBucket) && (info.State.Msgs > 0 || info.State.LastSeq > 0) {
			full = append(full, name)
		} else {
			empty = append(empty, name)
		}
	}
	slices.Sort(full)
	if len(full) > 0 {
		return nil, ErrNotEmpty.Sayingf(
			"Nothing was restored, because there are data already, in %s. Restore to a new NATS, or delete all "+
				"streams there if they are not needed.",
			strings.Join(full, ", "))
	}
	return empty, awaitIdle(ctx, conn, ErrNotEmpty)
}

// undo deletes restored streams, so that the restore can be repeated.
func undo(ctx context.Context, conn *bus.Conn, names []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
	defer cancel()
	var failures []error
	for _, name := range names {
		if err := conn.JetStream().DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			failures = append(failures, fmt.Errorf("delete the incomplete stream %s: %w", name, err))
		}
	}
	return errors.Join(failures...)
}

// Error codes of the server.
const (
	errNameInUse     = 10130
	errRestoreFailed = 10062 // all failures without a code of their own
)

func isRefusal(err error, code jetstream.ErrorCode) bool { return bus.APIError(err).ErrorCode == code }

func restoreError(s Stream, err error) error {
	switch name := s.Name; {
	case isRefusal(err, errNameInUse):
		return ErrNotEmpty.Saying("Another program created stream " + name + " during the restore, so the " +
			"restored system is incomplete. Find out which, delete its streams, and try again.").Because(err)
	case bus.LacksStorage(err):
		var c jetstream.StreamConfig
		_ = json.Unmarshal(s.Config, &c) // the server has parsed it
		return fault.New(fault.Invalid, "no_storage", fmt.Sprintf(
			"NATS has too little storage for stream %s, which may take %d MiB on each server. Raise max_file_store "+
				"there; its default is three quarters of the free space.",
			name, (max(c.MaxBytes, 0)+1<<20-1)>>20)).Because(err)
	case bus.LacksServers(err):
		return fault.New(fault.Invalid, "no_peers", "NATS has too few servers for that number of replicas. "+
			"Start more servers, or set --replicas to fewer.").Because(err)
	}
	return unavailable("restore stream "+s.Name, err)
}

// stream restores one stream, and returns when all of its replicas are current.
func (b *Backup) stream(ctx context.Context, conn *bus.Conn, s Stream, replicas int) error {
	if replicas > 0 {
		config, err := withReplicas(s.Config, replicas)
		if err != nil {
			return err
		}
		s.Config = config
	}
	if err := b.restoreCopy(ctx, conn, s); err != nil {
		return err
	}
	if s.Tail != nil {
		if err := b.tail(ctx, conn, s); err != nil {
			return fmt.Errorf("restore its tail: %w", err)
		}
	}
	return awaitReplicas(ctx, conn, s.Name)
}

// copyTries is how often the server may fail to create a stream.
const copyTries = 3

// restoreCopy creates a stream from its copy. The server may fail at it and succeed a moment later:
// after the deletion of an account's last stream it removes the account's folder in the background,
// possibly while it creates the next stream there (stream.stop in nats-server).
func (b *Backup) restoreCopy(ctx context.Context, conn *bus.Conn, s Stream) error {
	file, err := b.open(s.Copy)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it is only read
	p := notReadyYet
	p.Tries = copyTries
	p.When = func(err error) bool {
		return isRefusal(err, errRestoreFailed) && !bus.LacksServers(err) && !bus.LacksStorage(err)
	}
	return p.Do(ctx, func() error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		err := upload(ctx, conn.NATS(), s.Name, s.snapshotHeader, file)
		if isRefusal(err, errRestoreFailed) {
			err = errors.Join(err, undo(ctx, conn, []string{s.Name}))
		}
		return err
	})
}

// withReplicas changes the number of replicas, and preserves all other fields, known or not.
func withReplicas(config json.RawMessage, replicas int) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	fields["num_replicas"] = json.RawMessage(fmt.Sprint(replicas))
	return json.Marshal(fields)
}

// tail publishes the tail of a bucket.
func (b *Backup) tail(ctx context.Context, conn *bus.Conn, s Stream) error {
	file, err := b.open(*s.Tail)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it is only read
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

// awaitReplicas returns when all replicas of a stream are as current as its leader.
func awaitReplicas(ctx context.Context, conn *bus.Conn, name string) error {
	behind := func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline }
	// The server has no event for this.
	polling := retry.Policy{First: 50 * time.Millisecond, Longest: 50 * time.Millisecond}
	err := polling.Do(ctx, func() error {
		s, err := conn.JetStream().Stream(ctx, name)
		if err != nil {
			return err
		}
		c := s.CachedInfo().Cluster
		if c != nil && (c.Leader == "" || slices.ContainsFunc(c.Replicas, behind)) {
			return errors.New("they are not current")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("await the replicas of %s: %w", name, err)
	}
	return nil
}

// Finish creates what is not copied: timers, which the services set again at their start, snapshots
// of boards, and the consumers that services share. The services may be started afterwards. Errors
// are of kind fault.Unavailable, and those of [bus.Provision].
func (b *Backup) Finish(ctx context.Context, conn *bus.Conn) error {
	p, err := b.plan(ctx, conn)
	if err != nil {
		return err
	}
	return bus.Provision(ctx, conn, p)
}

// plan returns the plan that the restored streams already follow.
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
			return bus.Plan{}, unavailable("inspect stream "+name, err)
		}
		of(s.CachedInfo().Config)
	}
	return p, nil
}

// Compare returns the differences between the restored streams and the manifest, a sentence each.
// Messages that have expired since are no difference. Errors are of kind fault.Unavailable.
func (b *Backup) Compare(ctx context.Context, conn *bus.Conn, o RestoreOptions) ([]string, error) {
	there, err := streams(ctx, conn)
	if err != nil {
		return nil, err
	}
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, s := range b.Streams {
		if s.Name == bus.BucketStream(bus.SessionsBucket) && !o.KeepSessions {
			continue
		}
		info := there[s.Name]
		if info == nil {
			say("Stream %s is missing.", s.Name)
			continue
		}
		have, last := info.State, s.State.Last
		if s.Tail != nil {
			last += uint64(s.Tail.Messages)
		}
		if have.LastSeq != last {
			say("Stream %s ends at sequence %d instead of %d.", s.Name, have.LastSeq, last)
		}
		if o.Replicas > 0 && info.Config.Replicas != o.Replicas {
			say("Stream %s has %d replicas instead of %d.", s.Name, info.Config.Replicas, o.Replicas)
		}
		// The ledger loses messages only by age, at its beginning. Without messages it has no first
		// sequence, or one that is to come.
		expired := min(max(have.FirstSeq, s.State.First)-s.State.First, s.State.Messages)
		if want := s.State.Messages - expired; s.Name == bus.LedgerStream && have.Msgs != want {
			say("Stream %s has %d messages instead of %d.", s.Name, have.Msgs, want)
		}
	}
	return wrong, nil
}
