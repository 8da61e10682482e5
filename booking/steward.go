package booking

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A Steward does what nobody asks for: it ends bookings that nobody has accepted in time, and takes a booking from a rider who has given too
// many wrong start codes. It acts as a service, and whatever it does twice is done once: its commands have the ids of what they are about.
// Somebody else says when; see package bus.
type Steward struct {
	desk  *Desk
	board *Board
	act   func(context.Context) (Actor, string, error)
}

// NewSteward returns a steward. board shows it what is overdue, and act says as whom it acts, with the proof of that.
func NewSteward(desk *Desk, board *Board, act func(context.Context) (Actor, string, error)) (*Steward, error) {
	if desk == nil || board == nil || act == nil {
		return nil, errors.New("new steward: a desk, a board and somebody to act as are required")
	}
	return &Steward{desk, board, act}, nil
}

// ReasonWrongCodes is why a rider has lost a booking.
const ReasonWrongCodes = "wrong start code five times"

// Expire ends all bookings of the board whose deadline had passed at a time, by the ledger's clock, and returns how many it has ended. Where one
// fails it goes on with the others, and returns their errors joined: the same call may be repeated. That one was accepted or
// cancelled just in time is no error.
func (s *Steward) Expire(ctx context.Context, at time.Time) (int, error) {
	var failed []error
	ended := 0
	for _, due := range s.board.Overdue(at) {
		c, err := s.command(ctx, "expire", due)
		if err != nil {
			return ended, errors.Join(append(failed, err)...)
		}
		_, err = s.desk.Expire(ctx, c, due.ID)
		switch {
		case err == nil:
			ended++
		case errors.Is(err, ErrAlreadyAccepted), errors.Is(err, ErrCancelled), errors.Is(err, ErrCompleted), errors.Is(err, ErrExpired), errors.Is(err, ErrNotFound):
		default: // this machine's clock may be behind the ledger's: ErrNotOverdue, for a while
			failed = append(failed, fmt.Errorf("expire %s: %w", due.ID, err))
		}
		if ctx.Err() != nil {
			return ended, errors.Join(append(failed, ctx.Err())...)
		}
	}
	return ended, errors.Join(failed...)
}

// Attend does what an event calls for, if it still does.
func (s *Steward) Attend(ctx context.Context, e Event) error {
	if e.Kind != StartRefused {
		return nil
	}
	b, err := s.desk.Show(ctx, e.Booking)
	if errors.Is(err, ErrNotFound) { // it has aged, or the event was a forgery
		return nil
	}
	if err != nil {
		return err
	}
	if b.State != StateArrived || b.WrongCodes < MaxWrongCodes {
		return nil
	}
	c, err := s.command(ctx, "release", b)
	if err != nil {
		return err
	}
	_, err = s.desk.Release(ctx, c, b.ID, ReasonWrongCodes)
	switch {
	case errors.Is(err, ErrWrongState), errors.Is(err, ErrCancelled), errors.Is(err, ErrCompleted), errors.Is(err, ErrExpired): // somebody was faster
		return nil
	}
	return err
}

// command returns the command that does something about a booking as it has been since it opened last.
func (s *Steward) command(ctx context.Context, what string, b Booking) (Command, error) {
	actor, proof, err := s.act(ctx)
	if err != nil {
		return Command{}, err
	}
	return Command{ID: CommandID(DeriveID("steward", what, string(b.ID), strconv.FormatUint(b.OpenedSeq, 10))), Actor: actor, Proof: proof}, nil
}
