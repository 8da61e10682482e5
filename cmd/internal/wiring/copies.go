package wiring

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/backup"
)

const (
	closePatience = time.Second // for an operator's connection to close, once the work is done
	// readyPatience is how long an operator's command waits for what tokens are judged by, however long it may take then.
	readyPatience = 30 * time.Second
	// streamsPatience is how long it waits for a server to say that it has Pillion's streams.
	streamsPatience = 2 * time.Second
)

// Connecting connects as an operator for as long as something is done, and waits for nothing. key is the file with the operator's
// own service key.
func Connecting(ctx context.Context, log *slog.Logger, at bus.Config, key string, do func(*bus.Conn) error) (err error) {
	at, err = As(at, operator, key)
	if err != nil {
		return err
	}
	at.Log = log
	conn, err := bus.Connect(at)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	return do(conn)
}

// Connected lets an operator do something with a server that is there, within what ctx allows. Errors: those of [bus.Conn.Reach], soon.
func Connected(ctx context.Context, log *slog.Logger, at bus.Config, key string, do func(context.Context, *bus.Conn) error) error {
	at.Trouble = toldByCommand
	return Connecting(ctx, log, at, key, func(conn *bus.Conn) error {
		if err := conn.Reach(ctx); err != nil {
			return err
		}
		return do(ctx, conn)
	})
}

// toldByCommand is for a command that ends with the reason why NATS cannot be reached.
func toldByCommand(error) {}

// AsOperator is Connected to a server that has the streams. Errors besides: those of [bus.Conn.HasLedger], soon.
func AsOperator(ctx context.Context, log *slog.Logger, at bus.Config, key string, do func(context.Context, *bus.Conn) error) error {
	return Connected(ctx, log, at, key, func(ctx context.Context, conn *bus.Conn) error {
		if err := provisioned(ctx, conn); err != nil {
			return err
		}
		return do(ctx, conn)
	})
}

// provisioned returns nil where the streams are there, and does not believe it at once when they are not: a cluster that has lost
// a leader says so for a moment.
func provisioned(ctx context.Context, conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, streamsPatience)
	defer cancel()
	return await(ctx, conn.HasLedger)
}

// await tries until ready, or returns why not when ctx ends.
func await(ctx context.Context, ready func(context.Context) error) error {
	const pace = 20 * time.Millisecond
	var last error // why it was not, before time was up
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := ready(ctx)
		if err != nil && (ctx.Err() == nil || last == nil) {
			last = err
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(pace)), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return last
	}
	return nil
}

// NeverOverdue is for the inspection of a ledger for which nobody keeps the time.
const NeverOverdue time.Duration = math.MaxInt64

// Inspect reads the whole ledger as an operator, and reports what is there and what should not be. Errors are of kind fault.Unavailable, and those of
// the key in the file.
func Inspect(ctx context.Context, log *slog.Logger, at bus.Config, key string, options bus.InspectOptions) (found bus.Inspection, err error) {
	err = Operate(ctx, log, at, key, time.Hour, func(ctx context.Context, o Office) error {
		found, err = o.ledger.Inspect(ctx, options)
		return err
	})
	return found, err
}

// Restored is what a restored system looks like.
type Restored struct {
	Ledger bus.Inspection
	Wrong  []string // what is not as the backup says, a sentence each
}

// Restore fills the NATS that an operator reaches from a backup, inspects the ledger there, and makes ready what services need. Errors: those of package backup.
func Restore(ctx context.Context, log *slog.Logger, at bus.Config, key string, b *backup.Backup, o backup.RestoreOptions) (r Restored, err error) {
	err = Connected(ctx, log, at, key, func(ctx context.Context, conn *bus.Conn) error {
		if err := b.Restore(ctx, conn, o); err != nil {
			return err
		}
		r.Ledger.Board = board.New()
		if ledger := b.Stream(bus.LedgerStream); ledger != nil && ledger.Messages() > 0 { // else there need be no keys to judge it by
			if r.Ledger, err = Inspect(ctx, log, at, key, bus.InspectOptions{Grace: NeverOverdue}); err != nil {
				return err
			}
		}
		if err := b.Finish(ctx, conn, r.Ledger.Board); err != nil {
			return err
		}
		r.Wrong, err = b.Compare(ctx, conn, o)
		return err
	})
	return r, err
}
