package booking

import (
	"errors"
	"slices"
	"time"
)

// MaxWrongCodes is how many wrong start codes a rider may give before the booking must be released. With the last of them the
// system appends released; until it has, no further code is looked at.
const MaxWrongCodes = 5

// Why an event does not follow, where no command could have got there.
var (
	errUnknownKind  = errors.New("there is no such kind of event")
	errOtherBooking = errors.New("the event belongs to another booking")
	errTime         = errors.New("the event has a time before 1970 or after 2262")
)

// permits is the state machine: it returns nil if e may follow b's last event, and else the reason, in the words that its actor is
// told. Commands and stored events go through it alike, so what a command decides is what readers let pass.
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
	case Cancelled:
		return b.permitsCancelled(e)
	case Released:
		return b.permitsReleased(e)
	case Expired:
		return b.permitsExpired(e.When())
	default: // Rated
		return b.permitsRated(e)
	}
}

func (b *Booking) permitsRequested(e *Event) error {
	if b.State != StateNone {
		return ErrWrongState.Saying("This ride has been booked already. Book another one.")
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

// permitsAccepted does not look at the deadline: whether it was in time was decided before the event was stored.
func (b *Booking) permitsAccepted(a Actor) error {
	if b.State != StateOpen {
		return b.loss()
	}
	if slices.Contains(b.ReleasedBy, RiderID(a.ID)) {
		return ErrReleasedByYou
	}
	return nil
}

// permitsRide permits what the accepting rider does in one state.
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
		return ErrWrongCode.Saying("Too many wrong start codes were given, so this ride cannot be started any more. Please choose another booking.")
	}
	return nil
}

func (b *Booking) permitsCancelled(e *Event) error {
	if e.Actor.Role == User && UserID(e.Actor.ID) != b.User {
		return ErrNotYours
	}
	switch b.State {
	case StateOpen, StateAccepted, StateArrived:
	case StateStarted:
		if e.Actor.Role != Service {
			return ErrWrongState.Saying("The ride has begun, so it can no longer be cancelled. Ask your raider to stop where you want to get off.")
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
			return ErrNotYours
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
		return ErrWrongState.Saying("A ride can be rated once it is over. Try again then.")
	case given != 0:
		return ErrAlreadyRated
	case e.Stars < 1 || e.Stars > 5:
		return ErrInvalidStars
	}
	return nil
}

// ownRider returns nil if a has accepted the booking and still has it, or had it to its end.
func (b *Booking) ownRider(a Actor) error {
	switch {
	case b.Rider == RiderID(a.ID):
		return nil
	case slices.Contains(b.ReleasedBy, RiderID(a.ID)):
		return ErrReleasedByYou
	}
	return ErrNotYours
}

// loss says why a booking is no longer to be had.
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

// notNow says why the next step of a ride is not possible.
func (b *Booking) notNow() error {
	switch b.State {
	case StateCompleted, StateCancelled, StateExpired:
		return b.loss()
	}
	return ErrWrongState
}
