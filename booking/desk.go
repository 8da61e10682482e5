package booking

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// DeskOptions are a Desk's settings. Deadline is required.
type DeskOptions struct {
	Deadline time.Duration    // how long riders may accept a booking; at most LongestWait
	Tariff   *Tariff          // nil: bookings have no quote
	Codes    *StartCodes      // for StartWith; nil: it refuses every code
	Now      func() time.Time // default: time.Now
}

// A Desk is the command handler: it loads a booking, decides on a command, and appends the event.
// It is safe for concurrent use. Any number of desks may use one log, which decides races.
//
// The returned booking is never older than the command. A Desk refuses a command only after a Fresh
// read has confirmed the refusal. A command with an event in the history has succeeded, and a retry
// gets that success; if its id was used for something else, the error is ErrKeyReused. A new
// command for what its actor has already done succeeds too, and stores nothing. After a lost race
// the Desk decides again, until ctx ends; then the error is ErrContended. Errors of the log are
// passed on.
type Desk struct {
	log      Log
	deadline time.Duration
	tariff   *Tariff
	codes    *StartCodes
	now      func() time.Time
}

// NewDesk returns a Desk over log.
func NewDesk(log Log, o DeskOptions) (*Desk, error) {
	var missing []error
	if log == nil {
		missing = append(missing, errors.New("new desk: a log is required"))
	}
	if o.Deadline <= 0 || o.Deadline > LongestWait {
		missing = append(missing, fmt.Errorf("new desk: the deadline must be more than 0 and at most %s, not %s",
			LongestWait, o.Deadline))
	}
	if o.Tariff != nil {
		if err := o.Tariff.Valid(); err != nil {
			missing = append(missing, fmt.Errorf("new desk: the tariff: %w", err))
		}
	}
	if missing != nil {
		return nil, errors.Join(missing...)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Desk{log: log, deadline: o.Deadline, tariff: clone(o.Tariff), codes: o.Codes, now: o.Now}, nil
}

// Show returns a booking as the log has it now. Errors: ErrInvalidID, ErrNotFound.
func (d *Desk) Show(ctx context.Context, id ID) (Booking, error) {
	h, err := d.History(ctx, id)
	return h.Booking, err
}

// History returns a booking with its events, as the log has them now. Errors: ErrInvalidID,
// ErrNotFound.
func (d *Desk) History(ctx context.Context, id ID) (History, error) {
	if !ValidID(string(id)) {
		return History{}, ErrInvalidID
	}
	h, err := d.log.Load(ctx, id, Fresh)
	if err != nil {
		return History{}, fmt.Errorf("show %s: %w", id, err)
	}
	if h.Booking.State == StateNone {
		return History{}, ErrNotFound
	}
	return h, nil
}

// errNothingToDo is a decision: the booking already is as the command demands.
var errNothingToDo = errors.New("nothing to do")

// A work is the job of one command.
type work struct {
	// whether an earlier event of the command is what it asks for now
	same func(Event) bool
	// whether the actor has done it by another command; nil: never
	done   func(*History, Actor) bool
	decide func(Booking) (Event, error)                  // the decision
	write  func(after History, e Event) (History, error) // stores the event; nil: Log.Append
}

// do is the loop of every command but Book.
func (d *Desk) do(ctx context.Context, c Command, id ID, w work) (Booking, error) {
	if err := check(c, id); err != nil {
		return Booking{}, err
	}
	if w.write == nil {
		w.write = func(after History, e Event) (History, error) { return d.log.Append(ctx, c, id, after, e) }
	}
	decide := func(h *History) (Event, error) {
		if w.done != nil && w.done(h, c.Actor) {
			return Event{}, errNothingToDo
		}
		return w.decide(h.Booking)
	}
	h, err := d.log.Load(ctx, id, Quick)
	for reading := Quick; err == nil; reading = Fresh {
		done, repeated := h.byCommand(c.ID)
		switch {
		// A replica may have the event before the leader, and what it is told next asks the leader.
		case repeated && reading == Quick:
			h, err = d.log.Load(ctx, id, Fresh)
			continue
		case repeated && (!w.same(done) || done.Actor != c.Actor || done.Request != c.Request):
			return Booking{}, ErrKeyReused
		case repeated:
			return h.again(done), nil
		}
		e, refusal := decide(&h)
		switch {
		case errors.Is(refusal, ErrMoved): // the booking changed during the decision
			h, err = d.reload(ctx, id, History{})
			continue
		case refusal != nil && reading == Quick: // the history may be stale
			h, err = d.log.Load(ctx, id, Fresh)
			continue
		case errors.Is(refusal, errNothingToDo):
			return h.Booking, nil
		case refusal != nil:
			return Booking{}, h.explain(refusal, c.Actor)
		}
		next, failure := w.write(h, e)
		if failure == nil {
			return next.Booking, nil
		}
		if !errors.Is(failure, ErrMoved) {
			return Booking{}, fmt.Errorf("%s %s: %w", e.Kind, id, failure)
		}
		h, err = d.reload(ctx, id, next)
	}
	return Booking{}, fmt.Errorf("read %s: %w", id, err)
}

// reload returns the history of a booking after ErrMoved: the one that came with the error, or else
// a fresh one.
func (d *Desk) reload(ctx context.Context, id ID, moved History) (History, error) {
	if err := ctx.Err(); err != nil {
		return History{}, ErrContended.Because(err)
	}
	if moved.Revision != 0 {
		return moved, nil
	}
	return d.log.Load(ctx, id, Fresh)
}

// check rejects commands whose events readers of a ledger would reject.
func check(c Command, id ID) error {
	if !ValidID(string(id)) {
		return ErrInvalidID
	}
	if !ValidID(string(c.ID)) || c.Actor.ID == "" {
		return ErrInvalidCommand
	}
	return nil
}
