package wiring

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/retry"
)

const (
	// closeTimeout bounds the closing of an operator's connection, after its work is done.
	closeTimeout = time.Second
	// readyTimeout bounds an operator's wait for each of the things that verifying tokens needs,
	// whatever --timeout allows.
	readyTimeout = 30 * time.Second
	// streamsTimeout bounds the wait for a server that seems to have no streams.
	streamsTimeout = 2 * time.Second
)

// An Operator runs commands with an operator's permissions.
type Operator struct {
	Log *slog.Logger
	At  bus.Config // the NATS server
	Key string     // the file with the operator's service key
	setting.Trust
}

// OperatorFlags are the flags of an operator's command: where NATS is, with which key the operator
// authenticates, and what is logged.
type OperatorFlags struct {
	setting.Remote
	setting.ServiceKey
	setting.Trust
	setting.Log
}

// Operator returns the operator of a command.
func (f OperatorFlags) Operator(env program.Env, command string) Operator {
	return Operator{Log: env.Logger(f.Log), At: At(f.Remote, command), Key: f.Path(operator),
		Trust: f.Trust}
}

// Connecting connects to NATS, calls do and closes the connection. It does not wait until the
// server can be reached.
func (o Operator) Connecting(ctx context.Context, do func(*bus.Conn) error) error {
	at, err := As(o.At, operator, o.Key)
	if err != nil {
		return err
	}
	at.Log = o.Log
	conn, err := bus.Connect(at)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		conn.Close(ctx)
	}()
	return do(conn)
}

// Connected is Connecting to a server that can be reached. Errors: those of [bus.Conn.Reach], and
// of do.
func (o Operator) Connected(ctx context.Context, do func(context.Context, *bus.Conn) error) error {
	o.At.Trouble = ignoreTrouble
	return o.Connecting(ctx, func(conn *bus.Conn) error {
		if err := conn.Reach(ctx); err != nil {
			return err
		}
		return do(ctx, conn)
	})
}

// ignoreTrouble drops reports about the connection: the command itself ends with the reason.
func ignoreTrouble(error) {}

// WithStreams is Connected to a server that has Pillion's streams. Errors: those of Connected and
// of [bus.Conn.HasLedger].
func (o Operator) WithStreams(ctx context.Context, do func(context.Context, *bus.Conn) error) error {
	return o.Connected(ctx, func(ctx context.Context, conn *bus.Conn) error {
		if err := provisioned(ctx, conn); err != nil {
			return err
		}
		return do(ctx, conn)
	})
}

// provisioned returns nil if the streams exist. It retries for streamsTimeout, because a cluster
// without a leader may deny it for a moment.
func provisioned(ctx context.Context, conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, streamsTimeout)
	defer cancel()
	return await(ctx, conn.HasLedger)
}

// await retries ready until it returns nil. When ctx ends it returns the last error of ready.
func await(ctx context.Context, ready func(context.Context) error) error {
	const pause = 20 * time.Millisecond
	var last error // before ctx ended
	err := retry.Policy{First: pause, Longest: pause}.Do(ctx, func() error {
		err := ready(ctx)
		if err != nil && (ctx.Err() == nil || last == nil) {
			last = err
		}
		return err
	})
	if err != nil {
		return last
	}
	return nil
}

// NeverOverdue is the grace period of an inspection while no service expires bookings.
const NeverOverdue time.Duration = math.MaxInt64

// Inspect reads the whole ledger and reports its contents and its faults. Errors: those of
// [Operator.Session] and of [ledger.Ledger.Inspect].
func (o Operator) Inspect(ctx context.Context, options inspect.Options) (found inspect.Report, err error) {
	err = o.Session(ctx, time.Hour, func(ctx context.Context, s OperatorSession) error {
		found, err = inspect.Run(ctx, s.ledger, options)
		return err
	})
	return found, err
}

// A Restored describes a restored system.
type Restored struct {
	Ledger inspect.Report
	Wrong  []string // the differences from the backup, one sentence each
}

// Restore restores a backup, inspects the restored ledger, and prepares the buckets that services
// need. Errors: those of [Operator.Connected], [Operator.Inspect] and package backup.
func (o Operator) Restore(
	ctx context.Context, b *backup.Backup, options backup.RestoreOptions,
) (r Restored, err error) {
	err = o.Connected(ctx, func(ctx context.Context, conn *bus.Conn) error {
		if err := b.Restore(ctx, conn, options); err != nil {
			return err
		}
		r.Ledger.Board = board.New()
		if data, _, err := conn.Bucket(bus.KeysBucket).Get(ctx, bus.JWKSKey); err == nil &&
			bytes.HasPrefix(data, []byte("{")) {
			r.Wrong = append(r.Wrong, "A version without a trust key has made the backup, "+
				"so its events were not verified. Start authsvc, which signs its key set, and run: pillion audit")
			return b.Finish(ctx, conn)
		}
		// Without events there may be no keys to verify them with.
		if ledger := b.Stream(bus.LedgerStream); ledger != nil && ledger.Messages() > 0 {
			if r.Ledger, err = o.Inspect(ctx, inspect.Options{Grace: NeverOverdue}); err != nil {
				return err
			}
		}
		if err := b.Finish(ctx, conn); err != nil {
			return err
		}
		r.Wrong, err = b.Compare(ctx, conn, options)
		return err
	})
	return r, err
}
