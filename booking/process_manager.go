package booking

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A ProcessManager does what nobody asks for: it ends bookings that nobody has accepted in time, and takes
// a booking from a rider who has given too many wrong start codes, or who does not come. It acts as
// a service, and whatever it does twice is done once: its commands have the ids of what they are
// about. Somebody else says when; see package bus.
type ProcessManager struct{ config ProcessManagerConfig }

// ProcessManagerConfig is what a Steward works with. Desk, Board and Act are required.
type ProcessManagerConfig struct {
	Desk  *Desk
	Board Overview                                     // shows what is overdue; its owner feeds it
	Act   func(context.Context) (Actor, string, error) // as whom it acts, with the proof of that

	// Patience is how long a rider who has accepted may neither arrive nor come nearer to the
	// pickup; 0: for ever.
	Patience time.Duration
	// Approach returns how the rider of a booking comes nearer to its pickup. nil: no rider does.
	Approach func(Booking) Approach
	// Begun is since when that could be known: patience begins anew then, at most.
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
	// pace is how fast a rider must come nearer on the whole, in metres a second: as fast as
	// somebody jogs.
	pace = 2.5
	// roaming is for how many times the patience a rider may move who has no pickup to come to.
	roaming = 2
)

// NewProcessManager returns a steward.
func NewProcessManager(c ProcessManagerConfig) (*ProcessManager, error) {
	if c.Desk == nil || c.Board == nil || c.Act == nil {
		return nil, errors.New("new steward: Desk, Board and Act are required")
	}
	if c.Patience < 0 {
		return nil, fmt.Errorf("new steward: a patience of %s is less than none", c.Patience)
	}
	if c.Approach == nil {
		c.Approach = func(Booking) Approach { return Approach{} }
	}
	return &ProcessManager{c}, nil
}

// Why a rider has lost a booking.
const (
	ReasonWrongCodes = "wrong start code five times"
	ReasonNotComing  = "the raider did not come nearer"
	ReasonRiderGone  = "the raider has deleted their account"
	ReasonUserGone   = "the passenger has deleted their account" // why it was cancelled
)

// Expire ends all bookings of the board whose deadline had passed at a time, by the ledger's clock, and returns how many it has ended. Where one
// fails it goes on with the others, and returns their errors joined: the same call may be repeated. That one was accepted or
// cancelled just in time is no error.
func (s *ProcessManager) Expire(ctx context.Context, at time.Time) (int, error) {
	ended := 0
	return ended, s.each(ctx, s.config.Board.Overdue(at), func(due Booking) error {
		c, err := s.command(ctx, "expire", due.ID, due.OpenedSeq)
		if err != nil {
			return err
		}
		// This machine's clock may be behind the ledger's: ErrNotOverdue, for a while.
		if _, err = s.config.Desk.Expire(ctx, c, due.ID); err == nil {
			ended++
		}
		return err
	})
}

// Recall takes the bookings from their riders that were accepted Patience before a time, by the
// ledger's clock, and whose rider has neither arrived nor come nearer since. It returns when to
// look again, which is zero where nobody has to; and errors as Expire does.
func (s *ProcessManager) Recall(ctx context.Context, at time.Time) (again time.Time, err error) {
	if s.config.Patience == 0 {
		return time.Time{}, nil
	}
	return again, s.each(ctx, s.config.Board.EnRoute(at.Add(-s.config.Patience)), func(late Booking) error {
		if until := s.patienceEnds(late); until.After(at) {
			if again.IsZero() || until.Before(again) {
				again = until
			}
			return nil
		}
		c, err := s.command(ctx, "recall", late.ID, late.Seq)
		if err != nil {
			return err
		}
		_, err = s.config.Desk.ReleaseIf(ctx, c, late.ID, ReasonNotComing, func(b Booking) bool { return b.Seq == late.Seq })
		return err
	})
}

// patienceEnds returns when the patience with a rider who is on the way ends: Patience after the rider has
// last come nearer. A rider who comes nearer so slowly that somebody on foot would overtake them,
// or in a way that nobody can measure, does not buy time without end by it.
func (s *ProcessManager) patienceEnds(b Booking) time.Time {
	begun, way := later(b.UpdatedAt, s.config.Begun), s.config.Approach(b)
	most := begun.Add(time.Duration(way.Metres / pace * float64(time.Second)))
	if b.Pickup == nil {
		most = begun.Add(roaming * s.config.Patience)
	}
	if way.At.After(most) {
		way.At = most
	}
	return later(begun, way.At).Add(s.config.Patience)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Withdraw calls off what waits for a rider of a user who is about to delete their account, or
// returns ErrRideUnderWay where they have a ride that is not over, and leaves everything as it is
// then. Of a rider, who has no open bookings, it only tells that.
func (s *ProcessManager) Withdraw(ctx context.Context, who Actor) error {
	theirs := s.config.Board.Unfinished(who)
	for _, b := range theirs {
		if b.State != StateOpen {
			return stillRiding(who.Role)
		}
	}
	return s.each(ctx, theirs, func(b Booking) error { return s.callOff(ctx, b, ReasonUserGone) })
}

// EndRidesOf ends the rides of somebody whose account is gone: it takes them from a rider who has not
// begun, for others to accept, and calls off the others.
func (s *ProcessManager) EndRidesOf(ctx context.Context, who Actor) error {
	return s.each(ctx, s.config.Board.Unfinished(who), func(b Booking) error {
		if who.Role == Rider && b.State != StateStarted {
			c, err := s.command(ctx, "bereave", b.ID, b.Seq)
			if err != nil {
				return err
			}
			_, err = s.config.Desk.Release(ctx, c, b.ID, ReasonRiderGone)
			return err
		}
		why := ReasonUserGone
		if who.Role == Rider {
			why = ReasonRiderGone
		}
		return s.callOff(ctx, b, why)
	})
}

// callOff calls a ride off, at whatever stage it is.
func (s *ProcessManager) callOff(ctx context.Context, b Booking, why string) error {
	c, err := s.command(ctx, "call off", b.ID, b.OpenedSeq)
	if err != nil {
		return err
	}
	_, err = s.config.Desk.Cancel(ctx, c, b.ID, why)
	return err
}

// stillRiding returns ErrRideUnderWay with what somebody can do about it.
func stillRiding(r Role) error {
	if r == Rider {
		return ErrRideUnderWay.Saying("You have a ride that is not over yet. Complete it or give it back, and delete your account then.")
	}
	return ErrRideUnderWay
}

// each does something about bookings, and goes on where one fails. It returns the failures that are worth another try.
func (s *ProcessManager) each(ctx context.Context, bookings []Booking, do func(Booking) error) error {
	var failed []error
	for _, b := range bookings {
		if err := do(b); err != nil && !settled(err) {
			failed = append(failed, fmt.Errorf("booking %s: %w", b.ID, err))
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	return errors.Join(failed...)
}

// settled reports whether err says that somebody was faster, and nothing is left to do.
func settled(err error) bool {
	for _, loss := range []error{ErrAlreadyAccepted, ErrCancelled, ErrCompleted, ErrExpired, ErrNotFound, ErrWrongState} {
		if errors.Is(err, loss) {
			return true
		}
	}
	return false
}

// Attend does what an event calls for, if it still does, and returns when somebody has to look again, which is zero where nobody has to.
func (s *ProcessManager) Attend(ctx context.Context, e Event) (again time.Time, err error) {
	switch e.Kind {
	case Requested, Released:
		return e.Deadline, nil
	case Accepted:
		if s.config.Patience > 0 {
			again = e.At.Add(s.config.Patience)
		}
		return again, nil
	case StartRefused:
		return time.Time{}, s.refuse(ctx, e.Booking)
	}
	return time.Time{}, nil
}

// refuse takes a booking from a rider who has given too many wrong start codes.
func (s *ProcessManager) refuse(ctx context.Context, id ID) error {
	b, err := s.config.Desk.Show(ctx, id)
	if err == nil && b.State == StateArrived && b.WrongCodes >= MaxWrongCodes {
		var c Command
		if c, err = s.command(ctx, "release", id, b.OpenedSeq); err != nil {
			return err
		}
		_, err = s.config.Desk.ReleaseIf(ctx, c, id, ReasonWrongCodes, func(now Booking) bool { return now.OpenedSeq == b.OpenedSeq && now.WrongCodes >= MaxWrongCodes })
	}
	if err != nil && !settled(err) { // it has aged, or the event was a forgery
		return err
	}
	return nil
}

// command returns the command that does something about a booking as it has been since an event.
func (s *ProcessManager) command(ctx context.Context, what string, id ID, since uint64) (Command, error) {
	actor, proof, err := s.config.Act(ctx)
	if err != nil {
		return Command{}, err
	}
	return Command{ID: CommandID(DeriveID("steward", what, string(id), strconv.FormatUint(since, 10))), Actor: actor, Proof: proof}, nil
}
