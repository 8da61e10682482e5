package booking

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Quote returns the quote that Book would fix for a trip. It is nil for a trip without places, and
// if there is no tariff. Errors: those of [Tariff.Quote], and ErrSamePlace, which readers do not
// know: older ledgers have such trips.
func (d *Desk) Quote(trip Trip) (*Quote, error) {
	switch err := trip.Valid(); {
	case err != nil:
		return nil, err
	case trip.Pickup != nil && trip.Pickup.Distance(*trip.Dropoff) < shortestTrip:
		return nil, ErrSamePlace
	case d.tariff == nil:
		return nil, nil
	}
	return d.tariff.Quote(trip)
}

// shortestTrip is the least distance between pickup and dropoff, in metres. One place has many
// spellings: with more digits, at a pole, and on the date line.
const shortestTrip = 1

// Book creates a booking with the given id. It does not read the log first: the log checks that the
// booking is new. If the same actor has booked the same trip under this id, Book returns that
// booking as it is now, with its original fare, so a retry finds its own booking.
//
// Errors: ErrKeyReused if the booking is another user's, is for another trip, or has partly aged
// out of the log; those of [Desk.Quote] and [Request].
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
			return Booking{}, ErrKeyReused.Saying(
				"This Idempotency-Key was used for a booking that is no longer stored. Send this request with a new key.",
			)
		case b.State == StateNone: // the log has only rejected messages: append after them
		case b.User == UserID(c.Actor.ID) && trip.equal(Trip{b.Pickup, b.Dropoff}):
			return b, nil
		default:
			return Booking{}, ErrKeyReused
		}
	}
}

// Accept gives the booking to a rider. It succeeds for a rider who has accepted the booking before
// and still has it. Errors: those of [Booking.Accept], ErrRiderBusy if the rider has another
// unfinished ride, ErrNotForYou.
func (d *Desk) Accept(ctx context.Context, c Command, id ID) (Booking, error) {
	var at Engagement // the rider's engagement at the last decision
	next := Quick     // the reading of the next decision
	decide := func(b Booking) (Event, error) {
		reading := next
		next = Fresh
		e, err := b.Accept(c.Actor, d.now())
		if err != nil {
			return Event{}, err
		}
		at, err = d.free(ctx, RiderID(c.Actor.ID), reading)
		// another command of this rider has just accepted it
		if errors.Is(err, ErrRiderBusy) && at.Booking == id {
			err = ErrMoved
		}
		return e, err
	}
	w := work{same: of(Accepted), done: (*History).onTheWay, decide: decide}
	w.write = func(after History, e Event) (History, error) { return d.log.Engage(ctx, c, id, after, at, e) }
	return d.do(ctx, c, id, w)
}

// AcceptedBy returns the booking with an id if this command has accepted it, for the retry of a
// command that named no booking. The booking is as it is now, or as it was then if the rider has
// lost it. Errors: ErrNotFound if the command has not accepted it, ErrKeyReused if it asked for
// something else.
func (d *Desk) AcceptedBy(ctx context.Context, c Command, id ID) (Booking, error) {
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

// Arrive records that the rider is at the pickup. Errors: those of [Booking.Arrive].
func (d *Desk) Arrive(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.ArriveIf(ctx, c, id, func(Booking) error { return nil })
}

// ArriveIf is Arrive on the condition that there returns nil for the booking. Errors: those of
// [Booking.Arrive] and of there.
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

// Start begins the ride. The caller has checked the start code. Errors: those of [Booking.Start].
func (d *Desk) Start(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same: of(Started), done: (*History).hasStarted,
		decide: func(b Booking) (Event, error) { return b.Start(c.Actor) },
	})
}

// RefuseStart records that the rider gave a wrong start code. Errors: those of
// [Booking.RefuseStart].
func (d *Desk) RefuseStart(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same:   of(StartRefused),
		decide: func(b Booking) (Event, error) { return b.RefuseStart(c.Actor) },
	})
}

// StartWith begins the ride if the start code is right. Otherwise it records a wrong code and
// returns ErrWrongCode with the number of tries left. It decides on the history to which it
// appends, so concurrent tries cannot exceed MaxWrongCodes. Errors: those of [Booking.Start].
//
// A command is one try. A retry gets the outcome of the first one, whatever its own code: it does
// not count as a try, so it must not reveal whether its code is right. For the same reason every
// code succeeds once the ride has begun.
func (d *Desk) StartWith(ctx context.Context, c Command, id ID, code string) (Booking, error) {
	wrong := false
	b, err := d.do(ctx, c, id, work{
		same: func(e Event) bool { // an earlier outcome of this command
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
	case wrong: // a retry, and the booking has changed since
		return Booking{}, ErrWrongCode
	}
	return b, nil
}

// StartCode returns the start code of a booking for its passenger, or "" if it has none. Do not log
// it.
func (d *Desk) StartCode(b Booking) string {
	if d.codes == nil {
		return ""
	}
	return d.codes.Of(b)
}

// wrongCode returns ErrWrongCode with the number of tries left.
func wrongCode(left int) error {
	switch {
	case left <= 0:
		return ErrWrongCode.Saying("Wrong start code, for the fifth time. The ride goes to another raider.")
	case left == 1:
		return ErrWrongCode.Saying(ErrWrongCode.Message + " You have one try left.")
	}
	return ErrWrongCode.Sayingf("%s You have %d tries left.", ErrWrongCode.Message, left)
}

// Complete ends the ride. Errors: those of [Booking.Complete].
func (d *Desk) Complete(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same: of(Completed), done: (*History).hasCompleted,
		decide: func(b Booking) (Event, error) { return b.Complete(c.Actor) },
	})
}

// Cancel cancels the booking. Errors: those of [Booking.Cancel].
func (d *Desk) Cancel(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	return d.cancel(ctx, c, id, Cancelled, reason, Booking.Cancel)
}

// CancelAsOperator cancels the booking in any state that is not final. Errors: those of
// [Booking.CancelAsOperator].
func (d *Desk) CancelAsOperator(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	return d.cancel(ctx, c, id, OperatorCancelled, reason, Booking.CancelAsOperator)
}

func (d *Desk) cancel(
	ctx context.Context, c Command, id ID, k Kind, reason string,
	decide func(b Booking, a Actor, reason string) (Event, error),
) (Booking, error) {
	words, unreadable := plainText(reason)
	w := work{
		same: because(k, reason, words),
		decide: func(b Booking) (Event, error) {
			if unreadable != nil {
				return Event{}, unreadable
			}
			return decide(b, c.Actor, words)
		},
	}
	if k == Cancelled {
		w.done = (*History).hasCancelled
	}
	return d.do(ctx, c, id, w)
}

// Release takes the booking from its rider and offers it to others, with a new deadline. Errors:
// those of [Booking.Release].
func (d *Desk) Release(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	return d.ReleaseIf(ctx, c, id, reason, always)
}

// ReleaseAsOperator is Release by an operator.
func (d *Desk) ReleaseAsOperator(ctx context.Context, c Command, id ID, reason string) (Booking, error) {
	return d.release(ctx, c, id, OperatorReleased, reason, always, Booking.ReleaseAsOperator)
}

func always(Booking) bool { return true }

// ReleaseIf is Release on a condition. If still is false for the current booking, ReleaseIf does
// nothing and returns the booking. Errors: those of [Booking.Release].
func (d *Desk) ReleaseIf(
	ctx context.Context, c Command, id ID, reason string, still func(Booking) bool,
) (Booking, error) {
	return d.release(ctx, c, id, Released, reason, still, Booking.Release)
}

func (d *Desk) release(
	ctx context.Context, c Command, id ID, k Kind, reason string, still func(Booking) bool,
	decide func(b Booking, a Actor, deadline time.Time, reason string) (Event, error),
) (Booking, error) {
	words, unreadable := plainText(reason)
	w := work{
		same: because(k, reason, words),
		decide: func(b Booking) (Event, error) {
			switch {
			case !still(b):
				return Event{}, errNothingToDo
			case unreadable != nil:
				return Event{}, unreadable
			}
			return decide(b, c.Actor, d.now().Add(d.deadline), words)
		},
	}
	if k == Released {
		w.done = (*History).hasReleased
	}
	return d.do(ctx, c, id, w)
}

// Expire ends a booking that nobody accepted in time. Errors: those of [Booking.Expire].
func (d *Desk) Expire(ctx context.Context, c Command, id ID) (Booking, error) {
	return d.do(ctx, c, id, work{
		same:   of(Expired),
		decide: func(b Booking) (Event, error) { return b.Expire(c.Actor, d.now()) },
	})
}

// Rate gives the ride 1 to 5 stars. Errors: those of [Booking.Rate].
func (d *Desk) Rate(ctx context.Context, c Command, id ID, stars int) (Booking, error) {
	same := func(e Event) bool { return e.Kind.IsRating() && e.Stars == stars }
	return d.do(ctx, c, id, work{
		same: same, done: func(h *History, a Actor) bool { return h.by(a, same) },
		decide: func(b Booking) (Event, error) { return b.Rate(c.Actor, stars) },
	})
}

// of returns a predicate for events of a kind.
func of(k Kind) func(Event) bool {
	return func(e Event) bool { return e.Kind == k }
}

// because returns a predicate for events of a kind with a reason. Older builds stored the reason as
// it was written.
func because(k Kind, written, words string) func(Event) bool {
	return func(e Event) bool { return e.Kind == k && (e.Reason == words || e.Reason == written) }
}
