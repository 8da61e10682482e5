package wiring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/internal/fault"
)

// operator is the service identity of an operator's commands.
const operator = "operator"

// An OperatorSession reads and changes bookings for an operator, beside the running services. See
// [Operator.Session].
type OperatorSession struct {
	ledger   *ledger.Ledger
	desk     *booking.Desk
	board    *board.Board
	follower *ledger.Follower
	identity *trust.Identity
	base     *Base
}

// errOperator means that the session could not begin in time. Its message gives the reason.
var errOperator = fault.New(fault.Unavailable, "office", "The system did not answer in time.")

// Session connects to NATS, waits until tokens can be verified, and calls do with a session, which
// ends when do returns. deadline is how long a booking waits for another rider after a release.
// Errors: those of the connection and of do, and of kind fault.Unavailable if the system does not
// answer in time.
func (o Operator) Session(
	ctx context.Context, deadline time.Duration, do func(context.Context, OperatorSession) error,
) (err error) {
	at, err := As(o.At, operator, o.Key)
	if err != nil {
		return err
	}
	at.Trouble = ignoreTrouble
	base, err := NewBase(o.Log, o.AnchorPath(o.Key), at)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := base.Conn.Reach(ctx); err != nil {
		return err
	}
	if err := provisioned(ctx, base.Conn); err != nil {
		return err
	}
	if err := base.anchor.Ready(); err != nil {
		return err
	}
	s := OperatorSession{base: base, board: board.New()}
	if s.identity, err = base.identity(operator, o.Key); err != nil {
		return err
	}
	if s.ledger, err = base.ledger("/"+operator, nil); err != nil {
		return err
	}
	if s.desk, err = booking.NewDesk(s.ledger, booking.DeskOptions{Deadline: deadline}); err != nil {
		return fmt.Errorf("make the desk: %w", err)
	}
	s.follower = s.ledger.Follow(s.board)

	running, stop := context.WithCancel(ctx)
	var tasks errgroup.Group
	for _, task := range base.component().Tasks {
		tasks.Go(func() error { return task(running) })
	}
	defer func() {
		stop()
		err = errors.Join(err, tasks.Wait())
	}()
	keysReady := func(ctx context.Context) error {
		return errors.Join(base.Keys.Ready(ctx), base.Revoked.Ready(ctx))
	}
	if err := awaitOr(ctx, "Cannot load signing keys and revocations. "+
		"Check that authsvc has been started, and that most NATS servers are running.", keysReady); err != nil {
		if errors.Is(err, trust.ErrUntrusted) {
			return errOperator.Sayingf("The trust key whose public half is %s has not signed the keys in NATS. "+
				"Name the right one with --trust.", o.AnchorPath(o.Key)).Because(err)
		}
		return err
	}
	if err := awaitOr(ctx,
		"The clock of this machine and that of the NATS server that stores bookings are too far apart. "+
			"Set the wrong one from a time server (NTP).", base.Clock.Ready); err != nil {
		return err
	}
	return do(ctx, s)
}

// awaitOr waits until ready returns nil, for readyTimeout at most. Otherwise it returns errOperator
// with the message.
func awaitOr(ctx context.Context, message string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := await(ctx, ready); err != nil {
		return errOperator.Saying(message).Because(err)
	}
	return nil
}

// alongside runs a task until do returns.
func alongside(ctx context.Context, task program.Task, do func(context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	var tasks errgroup.Group
	tasks.Go(func() error { return task(running) })
	err := do(ctx)
	stop()
	return errors.Join(err, tasks.Wait())
}

// List reads the whole ledger into a board and returns the bookings that list selects from it.
func (s OperatorSession) List(
	ctx context.Context, list func(*board.Board) []booking.Booking,
) (found []booking.Booking, err error) {
	err = alongside(ctx, s.follower.Run, func(ctx context.Context) error {
		if err := awaitOr(ctx, "Cannot read the bookings in time. Try again with a longer --timeout.",
			s.follower.Ready); err != nil {
			return err
		}
		found = list(s.board)
		return nil
	})
	return found, err
}

// Ledger returns the ledger of the session.
func (s OperatorSession) Ledger() *ledger.Ledger { return s.ledger }

// Feed calls told with what the feed publishes on a subject. See [feed.Watch].
func (s OperatorSession) Feed(ctx context.Context, subject string, told func(feed.Event)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return feed.Watch(ctx, s.base.Conn, subject, told)
}

// Show returns the current state of a booking. Errors: those of [booking.Desk.Show].
func (s OperatorSession) Show(ctx context.Context, id booking.ID) (booking.Booking, error) {
	return s.desk.Show(ctx, id)
}

// Cancel cancels a booking in any state that is not final. Errors: those of
// [booking.Desk.CancelAsOperator].
func (s OperatorSession) Cancel(ctx context.Context, id booking.ID, reason string) (booking.Booking, error) {
	return s.act(ctx, id, reason, s.desk.CancelAsOperator)
}

// Release takes a booking from its rider, for others to accept. Errors: those of
// [booking.Desk.ReleaseAsOperator].
func (s OperatorSession) Release(ctx context.Context, id booking.ID, reason string) (booking.Booking, error) {
	return s.act(ctx, id, reason, s.desk.ReleaseAsOperator)
}

// act carries out a command with the operator's own token, which it requests from authsvc.
func (s OperatorSession) act(
	ctx context.Context, id booking.ID, reason string,
	do func(context.Context, booking.Command, booking.ID, string) (booking.Booking, error),
) (b booking.Booking, err error) {
	hasToken := func(ctx context.Context) error {
		_, _, err := s.identity.Act(ctx)
		return err
	}
	err = alongside(ctx, s.identity.Run, func(ctx context.Context) error {
		if err := awaitOr(ctx, "authsvc issues no token to the operator. "+
			"Check that it is running, and that operator.pub is in the folder of its --services.",
			hasToken); err != nil {
			return err
		}
		actor, proof, err := s.identity.Act(ctx)
		if err != nil {
			return err
		}
		b, err = do(ctx, booking.Command{ID: booking.CommandID(booking.NewID()), Actor: actor, Proof: proof}, id,
			reason)
		return err
	})
	return b, err
}
