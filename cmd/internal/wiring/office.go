package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/internal/fault"
)

// operator is the service as which an operator's commands act.
const operator = "operator"

// An Office is where an operator works on bookings, beside the running services.
type Office struct {
	ledger   *bus.Ledger
	desk     *booking.Desk
	board    *board.Board
	follower *bus.Follower
	identity *bus.Identity
	base     *Base
}

// errOffice says why a command could not begin.
var errOffice = fault.New(fault.Unavailable, "office", "The system could not be asked in time.")

// Operate lets an operator do something, within what ctx allows. key is the file with the operator's own service key, and deadline how long a booking
// waits that is released.
func Operate(ctx context.Context, log *slog.Logger, at bus.Config, key string, deadline time.Duration, do func(context.Context, Office) error) (err error) {
	at, err = As(at, operator, key)
	if err != nil {
		return err
	}
	at.Trouble = toldByCommand
	base, err := NewBase(log, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	if err := base.Conn.Reach(ctx); err != nil {
		return err
	}
	if err := provisioned(ctx, base.Conn); err != nil {
		return err
	}
	o := Office{base: base, board: board.New()}
	if o.identity, err = base.identity(operator, key); err != nil {
		return err
	}
	if o.ledger, err = base.ledger("/"+operator, nil); err != nil {
		return err
	}
	if o.desk, err = booking.NewDesk(o.ledger, booking.DeskOptions{Deadline: deadline}); err != nil {
		return fmt.Errorf("make the desk: %w", err)
	}
	o.follower = o.ledger.Follow(o.board)

	running, stop := context.WithCancel(ctx)
	var tasks errgroup.Group
	for _, task := range base.part().Tasks {
		tasks.Go(func() error { return task(running) })
	}
	defer func() {
		stop()
		err = errors.Join(err, tasks.Wait())
	}()
	if err := o.await(ctx, "Signing keys and revocations cannot be loaded. See that authsvc has been started, and that most servers of NATS are running.", func(ctx context.Context) error {
		return errors.Join(base.Keys.Ready(ctx), base.Revoked.Ready(ctx))
	}); err != nil {
		return err
	}
	if err := o.await(ctx, "The clock of this machine and that of the NATS server that stores bookings are too far apart. Set the one that is wrong by a time server (NTP).",
		base.Clock.Ready); err != nil {
		return err
	}
	return do(ctx, o)
}

// await waits until ready, and says otherwise what to do.
func (o Office) await(ctx context.Context, otherwise string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if err := await(ctx, ready); err != nil {
		return errOffice.Saying(otherwise).Because(err)
	}
	return nil
}

// alongside runs a task while something is done.
func alongside(ctx context.Context, task program.Task, do func(context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	var tasks errgroup.Group
	tasks.Go(func() error { return task(running) })
	err := do(ctx)
	stop()
	return errors.Join(err, tasks.Wait())
}

// List returns what there is on a board that has the whole ledger.
func (o Office) List(ctx context.Context, list func(*board.Board) []booking.Booking) (found []booking.Booking, err error) {
	err = alongside(ctx, o.follower.Run, func(ctx context.Context) error {
		if err := o.await(ctx, "The bookings could not be read in time. Try again, and give it longer with --timeout.", o.follower.Ready); err != nil {
			return err
		}
		found = list(o.board)
		return nil
	})
	return found, err
}

// Ledger returns the ledger, for whoever reads it as it is.
func (o Office) Ledger() *bus.Ledger { return o.ledger }

// Show returns a booking as the ledger has it now. Errors: those of [booking.Desk.Show].
func (o Office) Show(ctx context.Context, id booking.ID) (booking.Booking, error) {
	return o.desk.Show(ctx, id)
}

// Cancel calls a ride off, at whatever stage it is. Errors: those of [booking.Desk.Cancel].
func (o Office) Cancel(ctx context.Context, id booking.ID, reason string) (booking.Booking, error) {
	return o.act(ctx, id, reason, o.desk.Cancel)
}

// Release takes a booking from its rider, for others to accept. Errors: those of [booking.Desk.Release].
func (o Office) Release(ctx context.Context, id booking.ID, reason string) (booking.Booking, error) {
	return o.act(ctx, id, reason, o.desk.Release)
}

func (o Office) act(ctx context.Context, id booking.ID, reason string, do func(context.Context, booking.Command, booking.ID, string) (booking.Booking, error)) (b booking.Booking, err error) {
	err = alongside(ctx, o.identity.Run, func(ctx context.Context) error {
		if err := o.await(ctx, "authsvc gives the operator no token. See that it is running, and that operator.pub is in the folder that its --services names.", func(ctx context.Context) error {
			_, _, err := o.identity.Act(ctx)
			return err
		}); err != nil {
			return err
		}
		actor, proof, err := o.identity.Act(ctx)
		if err != nil {
			return err
		}
		b, err = do(ctx, booking.Command{ID: booking.CommandID(booking.NewID()), Actor: actor, Proof: proof}, id, reason)
		return err
	})
	return b, err
}
