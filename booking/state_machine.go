package booking

import (
	"errors"
	"slices"
	"time"
)

// Reasons why an event does not follow, which no command can cause.
var (
	errUnknownKind  = errors.New("unknown kind of event")
	errOtherBooking = errors.New("the event belongs to another booking")
	errTime         = errors.New("the time of the event is before 1970 or after 2262")
)

// permits is the state machine: it returns nil if e may follow b's last event, or else the reason,
// in words for the actor. Commands and stored events both pass through it, so readers accept
// exactly what commands can decide.
func (b *Booking) permits(e *Event) error {
	switch {
	case !e.Kind.Valid():
		return errUnknownKind
	case !e.Kind.MayBeCausedBy(e.Actor.Role) || e.Actor.ID == "":
		return ErrWrongRole
	case !Representable(e.When()):
		return errTime
	case e.Kind == Requested:
		return b.permitsRequested(e)
	case b.State == StateNone:
		return ErrNotFound
	case e.Booking != "" && e.Booking != b.ID:
		return errOtherBooking
	}
	switch e.Kind {
	case Accepted:
		return b.permitsAccepted(e.Actor)
	case Arrived:
		return b.permitsRide(e.Actor, StateAccepted)
	case Started, StartRefused:
		return b.permitsCode(e.Actor)
	case Completed:
		return b.permitsRide(e.Actor, StateStarted)
	case Cancelled, OperatorCancelled:
		return b.permitsCancelled(e)
	case Released, OperatorReleased:
		return b.permitsReleased(e)
	case Expired:
		return b.permitsExpired(e.When())
	default: // a rating
		return b.permitsRated(e)
	}
}

func (b *Booking) permitsRequested(e *Event) error {
	if b.State != StateNone {
		return ErrWrongState.Saying("This ride is already booked. Book another one.")
	}
	if err := (Trip{e.Pickup, e.Dropoff}).Valid(); err != nil {
		return err
	}
	if e.Quote != nil {
		if e.Pickup == nil {
			return ErrInvalidQuote
		}
		if err := e.Quote.valid(); err != nil {
			return err
		}
	}
	return validDeadline(e.Deadline)
}

// permitsAccepted ignores the deadline, which the command has checked before the event was stored.
func (b *Booking) permitsAccepted(a Actor) error {
	if b.State != StateOpen {
		return b.loss()
	}
	if slices.Contains(b.ReleasedBy, RiderID(a.ID)) {
		return ErrReleasedByYou
	}
	return nil
}

// permitsRide permits a step of the booking's rider in one state.
func (b *Booking) permitsRide(a Actor, in State) error {
	if err := b.ownRider(a); err != nil {
		return err
	}
	if b.State != in {
		return b.notNow()
	}
	return nil
}

func (b *Booking) permitsCode(a Actor) error {
	if err := b.permitsRide(a, StateArrived); err != nil {
		return err
	}
	if b.WrongCodes >= MaxWrongCodes {
		return ErrWrongCode.Saying(
			"You gave too many wrong start codes, so you cannot start this ride. Please choose another booking.",
		)
	}
	return nil
}

func (b *Booking) permitsCancelled(e *Event) error {
	if e.Actor.Role == User && UserID(e.Actor.ID) != b.User {
		return ErrNotFound
	}
	switch b.State {
	case StateOpen, StateAccepted, StateArrived:
	case StateStarted:
		switch {
		case e.Kind == OperatorCancelled, e.Former && e.Actor.Role == Service:
		case e.Actor.Role == User:
			return ErrWrongState.Saying(
				"The ride has begun, so you cannot cancel it. Ask your raider to stop where you want to get off.",
			)
		default:
			return ErrWrongState
		}
	default:
		return b.loss()
	}
	return validReason(e.Reason)
}

func (b *Booking) permitsReleased(e *Event) error {
	if e.Actor.Role == Rider {
		if err := b.ownRider(e.Actor); err != nil {
			return err
		}
	}
	if b.State != StateAccepted && b.State != StateArrived {
		return b.notNow()
	}
	if err := validDeadline(e.Deadline); err != nil {
		return err
	}
	return validReason(e.Reason)
}

func (b *Booking) permitsExpired(at time.Time) error {
	if b.State != StateOpen {
		return b.loss()
	}
	if at.Before(b.Deadline) {
		return ErrNotOverdue
	}
	return nil
}

func (b *Booking) permitsRated(e *Event) error {
	given := b.UserStars
	switch e.Actor.Role {
	case User:
		if UserID(e.Actor.ID) != b.User {
			return ErrNotFound
		}
	default:
		if err := b.ownRider(e.Actor); err != nil {
			return err
		}
		given = b.RiderStars
	}
	switch {
	case b.State == StateCancelled || b.State == StateExpired:
		return b.loss()
	case b.State != StateCompleted:
		return ErrWrongState.Saying("You can rate the ride once it is over. Try again then.")
	case given != 0:
		return ErrAlreadyRated
	case e.Stars < 1 || e.Stars > 5:
		return ErrInvalidStars
	}
	return nil
}

// ownRider returns nil if a is the booking's present or final rider.
func (b *Booking) ownRider(a Actor) error {
	switch {
	case b.Rider == RiderID(a.ID):
		return nil
	case slices.Contains(b.ReleasedBy, RiderID(a.ID)):
		return ErrReleasedByYou
	}
	return ErrNotFound
}

// loss returns the reason why a booking is not available.
func (b *Booking) loss() error {
	switch b.State {
	case StateAccepted, StateArrived, StateStarted:
		return ErrAlreadyAccepted
	case StateCompleted:
		return ErrCompleted
	case StateCancelled:
		return ErrCancelled
	case StateExpired:
		return ErrExpired
	}
	return ErrWrongState
}

// notNow returns the reason why the next step of a ride is not possible.
func (b *Booking) notNow() error {
	switch b.State {
	case StateCompleted, StateCancelled, StateExpired:
		return b.loss()
	}
	return ErrWrongState
}
