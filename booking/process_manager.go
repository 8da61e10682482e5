package booking

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A ProcessManager issues the commands that no person issues. It expires bookings that nobody
// accepted in time, and releases bookings whose rider gave too many wrong start codes or does not
// come. It also ends the rides of deleted accounts.
//
// It acts as a service. The ids of its commands derive from their causes, so a repeated command has
// no further effect. Each event has one writer, so each service has one duty: [Expiries] or
// [Releases], which a scheduler calls; see package timers.
type ProcessManager struct{ config ProcessManagerConfig }

// ProcessManagerConfig is the configuration of a ProcessManager. Desk, Board and Act are required.
type ProcessManagerConfig struct {
	Desk  *Desk
	Board Overview // shows what is overdue; its owner feeds it
	// returns the service's identity and its proof
	Act func(context.Context) (Actor, string, error)

	// Patience is how long a rider may neither arrive nor come nearer to the pickup; 0: for ever.
	Patience time.Duration
	// Approach returns how much nearer the rider of a booking has come. nil: no rider comes nearer.
	Approach func(Booking) Approach
	// Begun is when this process began to track riders. Patience starts again then.
	Begun time.Time
}

// An Overview lists the bookings that a [ProcessManager] may have to act on. Package board has one.
type Overview interface {
	// Overdue returns the open bookings whose deadline had passed at a time.
	Overdue(at time.Time) []Booking
	// EnRoute returns the bookings that were accepted by a time and whose rider has not arrived.
	EnRoute(by time.Time) []Booking
	// Unfinished returns the bookings of a user or a rider that are not over.
	Unfinished(who Actor) []Booking
}

const (
	// minPace is the average speed at which a rider must come nearer, in metres a second: that of a
	// jogger.
	minPace = 2.5
	// roamingFactor times Patience is how long a rider may move if the booking has no pickup.
	roamingFactor = 2
	// atOnce is how many bookings are acted on at a time. A log that syncs its writes stores this
	// many events in little more than the time of one.
	atOnce = 16
	// failuresTold is how many failures an error names.
	failuresTold = 10
)

// NewProcessManager returns a ProcessManager.
func NewProcessManager(c ProcessManagerConfig) (*ProcessManager, error) {
	if c.Desk == nil || c.Board == nil || c.Act == nil {
		return nil, errors.New("new process manager: Desk, Board and Act are required")
	}
	if c.Patience < 0 {
		return nil, fmt.Errorf("new process manager: the patience must not be negative, but is %s", c.Patience)
	}
	if c.Approach == nil {
		c.Approach = func(Booking) Approach { return Approach{} }
	}
	return &ProcessManager{c}, nil
}

// Reasons in the events of a ProcessManager: of releases, and of cancellations for deleted
// accounts.
const (
	ReasonWrongCodes = "wrong start code five times"
	ReasonNotComing  = "the raider did not come nearer"
	ReasonRiderGone  = "the raider has deleted their account"
	ReasonUserGone   = "the passenger has deleted their account"
)

// Expire expires the bookings on the board whose deadline had passed at time at, by the ledger's
// clock. It returns how many it expired. It continues after failures and returns them joined; the
// call may be repeated. A booking that was accepted or cancelled just in time is no failure.
func (m *ProcessManager) Expire(ctx context.Context, at time.Time) (int, error) {
	var ended atomic.Int64
	err := m.each(ctx, m.config.Board.Overdue(at), func(due Booking) error {
		c, err := m.command(ctx, "expire", due.ID, due.OpenedSeq)
		if err != nil {
			return err
		}
		// This machine's clock may be behind the ledger's. Then the error is ErrNotOverdue for a
		// while.
		if _, err = m.config.Desk.Expire(ctx, c, due.ID); err == nil {
			ended.Add(1)
		}
		return err
	})
	return int(ended.Load()), err
}

// ReleaseNoShows releases the bookings whose rider, at time at by the ledger's clock, had neither
// arrived nor come nearer for Patience. It returns when to call it again, or zero if there is no
// need. It treats failures as Expire does.
func (m *ProcessManager) ReleaseNoShows(ctx context.Context, at time.Time) (again time.Time, err error) {
	if m.config.Patience == 0 {
		return time.Time{}, nil
	}
	late := slices.DeleteFunc(m.config.Board.EnRoute(at.Add(-m.config.Patience)), func(b Booking) bool {
		until := m.patienceEnds(b)
		if until.After(at) && (again.IsZero() || until.Before(again)) {
			again = until
		}
		return until.After(at)
	})
	return again, m.each(ctx, late, func(late Booking) error {
		c, err := m.command(ctx, "recall", late.ID, late.Seq)
		if err != nil {
			return err
		}
		_, err = m.config.Desk.ReleaseIf(
			ctx, c, late.ID, ReasonNotComing, func(b Booking) bool { return b.Seq == late.Seq },
		)
		return err
	})
}

// patienceEnds returns when a rider on the way loses the booking: Patience after the rider last
// came nearer. Riders who come nearer at less than minPace, or who move without a known pickup,
// gain only limited time.
func (m *ProcessManager) patienceEnds(b Booking) time.Time {
	begun, approach := later(b.UpdatedAt, m.config.Begun), m.config.Approach(b)
	latest := begun.Add(time.Duration(approach.Metres / minPace * float64(time.Second)))
	if b.Pickup == nil {
		latest = begun.Add(roamingFactor * m.config.Patience)
	}
	if approach.At.After(latest) {
		approach.At = latest
	}
	return later(begun, approach.At).Add(m.config.Patience)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Withdraw cancels the open bookings of a user who is about to delete their account. If a user or
// rider has a ride with an acceptance that is not over, it changes nothing and returns
// ErrRideUnderWay.
func (m *ProcessManager) Withdraw(ctx context.Context, who Actor) error {
	theirs := m.config.Board.Unfinished(who)
	for _, b := range theirs {
		if b.State != StateOpen {
			return unfinished(b, who.Role, ErrRideUnderWay, "before you delete your account")
		}
	}
	return m.each(ctx, theirs, func(b Booking) error { return m.cancel(ctx, b, ReasonUserGone) })
}

// EndRidesOf ends the rides of a deleted account that have not begun: it releases the bookings of a
// rider, and cancels those of a user. A ride that has begun is for its rider to complete, or for an
// operator to break off. It returns ErrRideUnderWay where only the operator can.
func (m *ProcessManager) EndRidesOf(ctx context.Context, who Actor) error {
	return m.each(ctx, m.config.Board.Unfinished(who), func(b Booking) error {
		switch {
		case who.Role == User && b.State == StateStarted:
			return nil
		case who.Role == User:
			return m.cancel(ctx, b, ReasonUserGone)
		case b.State == StateStarted:
			return ErrRideUnderWay.Sayingf("The ride of booking %s has begun, and its raider has left. "+
				"An operator ends it with: pillion bookings cancel %s", b.ID, b.ID)
		}
		c, err := m.command(ctx, "bereave", b.ID, b.Seq)
		if err != nil {
			return err
		}
		_, err = m.config.Desk.Release(ctx, c, b.ID, ReasonRiderGone)
		return err
	})
}

// cancel cancels a booking whose ride has not begun.
func (m *ProcessManager) cancel(ctx context.Context, b Booking, why string) error {
	c, err := m.command(ctx, "call off", b.ID, b.OpenedSeq)
	if err != nil {
		return err
	}
	_, err = m.config.Desk.Cancel(ctx, c, b.ID, why)
	return err
}

// each calls do for bookings, several at a time and in any order, so that instances with the same
// work seldom meet. It continues after failures, until ctx ends. It returns those failures that are
// worth a retry.
func (m *ProcessManager) each(ctx context.Context, bookings []Booking, do func(Booking) error) error {
	var work sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	turns := make(chan struct{}, atOnce)
	for _, i := range rand.Perm(len(bookings)) { //nolint:gosec // any order will do
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-turns }()
			err := do(bookings[i])
			if err == nil || settled(err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, fmt.Errorf("booking %s: %w", bookings[i].ID, err))
		})
	}
	work.Wait()
	if more := len(failed) - failuresTold; more > 0 {
		failed = append(failed[:failuresTold], fmt.Errorf("and %d more", more))
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// settled reports whether err says that nothing is left to do, because another command was faster.
func settled(err error) bool {
	for _, loss := range []error{ErrAlreadyAccepted, ErrCancelled, ErrCompleted, ErrExpired, ErrNotFound,
		ErrWrongState} {
		if errors.Is(err, loss) {
			return true
		}
	}
	return false
}

// Expiries is the duty of usersvc, which owns the event expired.
type Expiries struct{ *ProcessManager }

// Due expires what is overdue; see [ProcessManager.Expire].
func (m Expiries) Due(ctx context.Context, at time.Time) (again time.Time, err error) {
	_, err = m.Expire(ctx, at)
	return time.Time{}, err
}

// Attend returns the deadline of an open booking.
func (m Expiries) Attend(_ context.Context, b Booking) (again time.Time, err error) {
	if b.State == StateOpen {
		return b.Deadline, nil
	}
	return time.Time{}, nil
}

// Releases is the duty of ridersvc, which owns the event released.
type Releases struct{ *ProcessManager }

// Due is [ProcessManager.ReleaseNoShows].
func (m Releases) Due(ctx context.Context, at time.Time) (again time.Time, err error) {
	return m.ReleaseNoShows(ctx, at)
}

// Attend releases a booking whose rider has given too many wrong codes, and returns when the
// patience with a rider on the way ends.
func (m Releases) Attend(ctx context.Context, b Booking) (again time.Time, err error) {
	switch {
	case b.State == StateAccepted && m.config.Patience > 0:
		return b.UpdatedAt.Add(m.config.Patience), nil
	case b.State == StateArrived && b.WrongCodes >= MaxWrongCodes:
		return time.Time{}, m.refuse(ctx, b.ID)
	}
	return time.Time{}, nil
}

// refuse releases a booking whose rider has given too many wrong start codes.
func (m *ProcessManager) refuse(ctx context.Context, id ID) error {
	b, err := m.config.Desk.Show(ctx, id)
	if err == nil && b.State == StateArrived && b.WrongCodes >= MaxWrongCodes {
		var c Command
		if c, err = m.command(ctx, "release", id, b.OpenedSeq); err != nil {
			return err
		}
		_, err = m.config.Desk.ReleaseIf(
			ctx, c, id, ReasonWrongCodes,
			func(now Booking) bool { return now.OpenedSeq == b.OpenedSeq && now.WrongCodes >= MaxWrongCodes },
		)
	}
	if err != nil && !settled(err) { // else the booking has aged, or the event was a forgery
		return err
	}
	return nil
}

// command returns a command about a booking. Its id derives from what it does and the event that
// caused it, by the Seq since.
func (m *ProcessManager) command(ctx context.Context, what string, id ID, since uint64) (Command, error) {
	actor, proof, err := m.config.Act(ctx)
	if err != nil {
		return Command{}, err
	}
	return Command{
		ID:    CommandID(DeriveID("steward", what, string(id), strconv.FormatUint(since, 10))),
		Actor: actor,
		Proof: proof,
	}, nil
}
