package booking

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// DeskOptions are a Desk's settings. Deadline is required.
type DeskOptions struct {
	Deadline time.Duration    // how long a booking waits for a rider; more than 0
	Tariff   *Tariff          // what rides cost; nil: bookings have no fare
	Codes    *StartCodes      // for StartWith; nil: it refuses everything
	Now      func() time.Time // default: time.Now
}

// A Desk takes commands: it loads the booking, decides, and appends the event. It is safe for
// concurrent use, and any number of desks may work on one log: the log decides races.
//
// The bookings that it returns are never older than the command. A refusal is told only after a
// Fresh read has confirmed it. A command that is already in the booking's history has succeeded,
// and a retry is told so; a command whose id was used for something else gets ErrKeyReused. Whoever
// asks anew for what they have done already is told success too, and nothing is stored. A race that
// is lost is decided again, until ctx ends: ErrContended then. Errors of the log are passed on.
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
	if o.Deadline <= 0 {
		missing = append(missing, fmt.Errorf("new desk: the deadline must be more than 0, not %s", o.Deadline))
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
	d := &Desk{log: log, deadline: o.Deadline, codes: o.Codes, now: o.Now}
	if o.Tariff != nil {
		own := *o.Tariff
		d.tariff = &own
	}
	return d, nil
}

// Quote returns what a trip comes to, as Book would fix it: nil for a trip without places, and where there is no tariff. Errors: those
// of [Tariff.Quote].
func (d *Desk) Quote(trip Trip) (*Quote, error) {
	if d.tariff == nil {
		return nil, trip.Valid()
	}
	return d.tariff.Quote(trip)
}

// Book asks for a ride, as booking id. It reads nothing first: the booking must be new, and the log checks that. Where it is not new
// but the same actor has booked the same trip, that booking is returned as it is now, with the fare that it was booked for: a retry
// meets its own booking.
//
// Errors: ErrKeyReused where the booking is another's or for another trip, or has partly aged out of the log; those of [Desk.Quote] and [Request].
func (d *Desk) Book(ctx context.Context, c Command, id ID, trip Trip) (Booking, error) {
	if err := check(c, id); err != nil {
		return Booking{}, err
	}
	quote, err := d.Quote(trip)
	if err != nil {
		return Booking{}, err
	}
	e, err := Request(c.Actor, trip, quote, d.now().Add(d.deadline))
	if err != nil {
		return Booking{}, err
	}
	var h History
	for {
		next, err := d.log.Append(ctx, c, id, h, e)
		if err == nil {
			return next.Booking, nil
		}
		if !errors.Is(err, ErrMoved) {
			return Booking{}, fmt.Errorf("book %s: %w", id, err)
		}
		if h, err = d.reload(ctx, id, next); err != nil {
			return Booking{}, fmt.Errorf("book %s: %w", id, err)
		}
		b := h.Booking
		switch {
		case h.aged():
			return Booking{}, ErrKeyReused.Saying("This Idempotency-Key has been used for a booking that is too old to be shown. Send this one with a new key.")
		case b.State == StateNone: // only refused messages are there: book after them
		case b.User == UserID(c.Actor.ID) && trip.equal(Trip{b.Pickup, b.Dropoff}):
			return b, nil
		default:
			return Booking{}, ErrKeyReused
		}
	}
}

// Accept takes the booking for a rider. A rider who has already accepted it and still has it is told success. Errors: those of
// [Booking.Accept], ErrRiderBusy where the rider has another ride that is not over, ErrNotForYou.
func (d *Desk) Accept(ctx context.Context, c Command, id ID) (Booking, error) {
	var at Engagement // what the last decision was based on besides the booking
	decide := func(b Booking) (Event, error) {
		e, err := b.Accept(c.Actor, d.now())
		if err != nil {
			return Event{}, err
		}
		at, err = d.free(ctx, RiderID(c.Actor.ID))
		if errors.Is(err, ErrRiderBusy) && at.Booking == id { // busy with this one, since a moment ago: no refusal at all
			err = ErrMoved
		}
		return e, err
	}
	w := work{same: of(Accepted), done: (*History).onTheWay, decide: decide}
	w.write = func(after History, e Event) (History, error) { return d.log.Engage(ctx, c, id, after, at, e) }
	return d.do(ctx, c, id, w)
}

// AcceptedBy returns the booking that a rider has accepted by this command, as it is now, or as it was then where the rider has it no longer: for the retry of a command that did not say which. Errors:
// ErrNotFound where there is none, ErrKeyReused where it asked for something else.
func (d *Desk) AcceptedBy(ctx context.Context, c Command) (Booking, error) {
	id, err := d.log.EngagedBy(ctx, RiderID(c.Actor.ID), c.ID)
	if err != nil {
		return Booking{}, fmt.Errorf("look for what %s has accepted: %w", c.ID, err)
	}
	if id == "" {
		return Booking{}, ErrNotFound
	}
	h, err := d.log.Load(ctx, id, Fresh)
	if err != nil {
		return Booking{}, fmt.Errorf("show %s: %w", id, err)
	}
	e, ok := h.byCommand(c.ID)
	switch {
	case !ok || e.Kind != Accepted || e.Actor != c.Actor:
		return Booking{}, ErrNotFound
	case e.Request != c.Request:
		return Booking{}, ErrKeyReused
	}
	return h.again(e), nil
}

// free returns what the log knows of a rider who has no ride that is not over, or ErrRiderBusy and what ride it is.
func (d *Desk) free(ctx context.Context, r RiderID) (Engagement, error) {
	at, err := d.log.Engagement(ctx, r)
	if err != nil || at.Booking == "" {
		return at, err
	}
	h, err := d.log.Load(ctx, at.Booking, Fresh) // one that does not know of the acceptance yet would call the rider free
	if err != nil {
		return Engagement{}, err
	}
	if h.Booking.IsWith(r) {
		return at, ErrRiderBusy
	}
	return at, nil
}

// Arrive says that the rider is at the pickup. Errors: those of [Booking.Arrive].
func (d *Desk) Arrive(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.ArriveIf(ctx, c, id, func(Booking) error { return nil })
}

// ArriveIf is Arrive for a rider who must be seen to be there: what there returns of the booking,
// where it is not nil, is what the rider is told. Errors: those of [Booking.Arrive] and of there.
func (d *Desk) ArriveIf(ctx context.Context, c Command, id ID, there func(Booking) error) (Booking, error) {
	return d.do(ctx, c, id, work{
		same: of(Arrived), done: (*History).hasArrived,
		decide: func(b Booking) (Event, error) {
			e, err := b.Arrive(c.Actor)
			if err == nil {
				err = there(b)
			}
			return e, err
		},
	})
}

// Start begins the ride, with a start code that the caller knows to be right. Errors: those of [Booking.Start].
func (d *Desk) Start(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same: of(Started), done: (*History).hasStarted,
		decide: func(b Booking) (Event, error) { return b.Start(c.Actor) },
	})
}

// RefuseStart says that the rider has given a wrong start code. Errors: those of [Booking.RefuseStart].
func (d *Desk) RefuseStart(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same:   of(StartRefused),
		decide: func(b Booking) (Event, error) { return b.RefuseStart(c.Actor) },
	})
}

// StartWith begins the ride if the start code is right, and else says that a wrong one was given
// and returns ErrWrongCode, with how many tries are left. It decides upon the history that its
// event is appended to, so of any number of tries at once no more count than are allowed. Errors:
// those of [Booking.Start].
//
// A command is one try. A retry gets the outcome of the first one, whatever code it brings: it
// counts for nothing, so it must not tell anything of its code. Nor does a try in a ride that has
// begun, which its rider is told.
func (d *Desk) StartWith(ctx context.Context, c Command, id ID, code string) (Booking, error) {
	wrong := false
	b, err := d.do(ctx, c, id, work{
		same: func(e Event) bool { // an earlier try of this command
			wrong = e.Kind == StartRefused
			return wrong || e.Kind == Started
		},
		done: func(h *History, a Actor) bool {
			wrong = false
			return h.hasStarted(a)
		},
		decide: func(b Booking) (Event, error) {
			wrong = !d.codes.right(b, code)
			if wrong {
				return b.RefuseStart(c.Actor)
			}
			return b.Start(c.Actor)
		},
	})
	switch {
	case err != nil:
		return Booking{}, err
	case wrong && b.State == StateArrived:
		return Booking{}, wrongCode(MaxWrongCodes - b.WrongCodes)
	case wrong: // and by now it is somewhere else
		return Booking{}, ErrWrongCode
	}
	return b, nil
}

// StartCode returns the code with which the ride of a booking can be started, for its passenger, or "" where there is none. Do not log it.
func (d *Desk) StartCode(b Booking) string {
	if d.codes == nil {
		return ""
	}
	return d.codes.Of(b)
}

// wrongCode returns ErrWrongCode with how many tries are left.
func wrongCode(left int) error {
	switch {
	case left <= 0:
		return ErrWrongCode.Saying("This is not the start code of this ride, for the fifth time: the ride goes to another raider.")
	case left == 1:
		return ErrWrongCode.Saying("This is not the start code of this ride. Ask the passenger for the four digits; you have one try left.")
	}
	return ErrWrongCode.Saying(fmt.Sprintf("This is not the start code of this ride. Ask the passenger for the four digits; you have %d tries left.", left))
}

// Complete ends the ride. Errors: those of [Booking.Complete].
func (d *Desk) Complete(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same: of(Completed), done: (*History).hasCompleted,
		decide: func(b Booking) (Event, error) { return b.Complete(c.Actor) },
	})
}

// Cancel calls the ride off. Errors: those of [Booking.Cancel].
func (d *Desk) Cancel(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	words, unreadable := plainText(reason)
	return d.do(ctx, c, id, work{
		same: because(Cancelled, reason, words), done: (*History).hasCancelled,
		decide: func(b Booking) (Event, error) {
			if unreadable != nil {
				return Event{}, unreadable
			}
			return b.Cancel(c.Actor, words)
		},
	})
}

// Release takes the booking from its rider and opens it to others, with a new deadline. Errors: those of [Booking.Release].
func (d *Desk) Release(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	return d.ReleaseIf(ctx, c, id, reason, func(Booking) bool { return true })
}

// ReleaseIf is Release for a reason that may have ceased to be one: unless still holds of the booking as it then is, nothing is done, and the
// booking is returned. Errors: those of [Booking.Release].
func (d *Desk) ReleaseIf(ctx context.Context, c Command, id ID, reason string, still func(Booking) bool) (Booking, error) {
	words, unreadable := plainText(reason)
	return d.do(ctx, c, id, work{
		same: because(Released, reason, words), done: (*History).hasGivenBack,
		decide: func(b Booking) (Event, error) {
			switch {
			case !still(b):
				return Event{}, errNothingToDo
			case unreadable != nil:
				return Event{}, unreadable
			}
			return b.Release(c.Actor, d.now().Add(d.deadline), words)
		},
	})
}

// Expire ends a booking that nobody has accepted in time. Errors: those of [Booking.Expire].
func (d *Desk) Expire(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same:   of(Expired),
		decide: func(b Booking) (Event, error) { return b.Expire(c.Actor, d.now()) },
	})
}

// Rate gives the ride 1 to 5 stars. Errors: those of [Booking.Rate].
func (d *Desk) Rate(ctx context.Context, c Command, id ID, stars int) (Booking, error) {
	same := func(e Event) bool { return e.Kind == Rated && e.Stars == stars }
	return d.do(ctx, c, id, work{
		same: same, done: func(h *History, a Actor) bool { return h.by(a, same) },
		decide: func(b Booking) (Event, error) { return b.Rate(c.Actor, stars) },
	})
}

// Show returns a booking as the log has it now. Errors: ErrInvalidID, ErrNotFound.
func (d *Desk) Show(ctx context.Context, id ID) (Booking, error) {
	h, err := d.History(ctx, id)
	return h.Booking, err
}

// History returns a booking with its events, as the log has them now. Errors: ErrInvalidID, ErrNotFound.
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

// errNothingToDo is a decision: what the command asks for is so already.
var errNothingToDo = errors.New("nothing to do")

// of returns whether an event is of a kind.
func of(k Kind) func(Event) bool {
	return func(e Event) bool { return e.Kind == k }
}

// because returns whether an event is of a kind and has a reason, which older builds have kept as
// it was written.
func because(k Kind, written, words string) func(Event) bool {
	return func(e Event) bool { return e.Kind == k && (e.Reason == words || e.Reason == written) }
}

// A work is what a command asks for.
type work struct {
	same   func(Event) bool             // whether an event that the command has caused already is what it asks for now
	done   func(*History, Actor) bool   // whether the actor has done it already, by another command; nil: it can be done again
	decide func(Booking) (Event, error) // the event that does it
	write  func(after History, e Event) (History, error)
}

// do is the loop of every command but Book. A work without write concerns the booking alone.
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
		if e, ok := h.byCommand(c.ID); ok {
			if !w.same(e) || e.Actor != c.Actor || e.Request != c.Request {
				return Booking{}, ErrKeyReused
			}
			return h.again(e), nil
		}
		e, refusal := decide(&h)
		switch {
		case errors.Is(refusal, ErrMoved): // while it was decided
			h, err = d.reload(ctx, id, History{})
			continue
		case refusal != nil && reading == Quick: // what it is based on may be stale
			h, err = d.log.Load(ctx, id, Fresh)
			continue
		case errors.Is(refusal, errNothingToDo):
			return h.Booking, nil
		case refusal != nil:
			return Booking{}, refusal
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

// reload returns the history of a booking that has moved: what the log has read of it, or else what it is now.
func (d *Desk) reload(ctx context.Context, id ID, moved History) (History, error) {
	if err := ctx.Err(); err != nil {
		return History{}, ErrContended.Because(err)
	}
	if moved.Revision != 0 {
		return moved, nil
	}
	return d.log.Load(ctx, id, Fresh)
}

// check refuses what no ledger could store so that its readers would take it back.
func check(c Command, id ID) error {
	if !ValidID(string(id)) {
		return ErrInvalidID
	}
	if !ValidID(string(c.ID)) || c.Actor.ID == "" {
		return ErrInvalidCommand
	}
	return nil
}
