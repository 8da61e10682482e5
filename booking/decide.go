package booking

import "time"

// Each decision returns the event that a command causes, with Kind, Actor and Details set, or an
// error for the actor. Decisions are pure functions. The log that stores the event sets its other
// fields.

// Request decides that user a books a ride, which riders may accept until deadline. quote is the
// trip's estimate, or nil. Errors: ErrWrongRole, ErrInvalidTrip, ErrInvalidPlace, ErrInvalidQuote,
// ErrInvalidDeadline.
func Request(a Actor, trip Trip, quote *Quote, deadline time.Time) (Event, error) {
	return Booking{}.decide(Event{Kind: Requested, Actor: a, Details: Details{
		Pickup: trip.Pickup, Dropoff: trip.Dropoff, Quote: quote, Deadline: deadline,
	}})
}

// Accept decides that rider a accepts the booking at time now. Errors: ErrNotFound, ErrWrongRole,
// ErrAlreadyAccepted (also by a), ErrReleasedByYou, ErrCancelled, ErrCompleted, and ErrExpired,
// also if the deadline has passed without an expired event.
func (b Booking) Accept(a Actor, now time.Time) (Event, error) {
	e, err := b.decide(Event{Kind: Accepted, Actor: a})
	if err == nil && b.Overdue(now) {
		return Event{}, ErrExpired
	}
	return e, err
}

// Arrive decides that rider a is at the pickup. Errors: ErrNotFound, ErrWrongRole,
// ErrReleasedByYou, ErrWrongState, ErrCancelled, ErrCompleted.
func (b Booking) Arrive(a Actor) (Event, error) {
	return b.decide(Event{Kind: Arrived, Actor: a})
}

// Start decides that the ride begins. The caller has checked the start code. Errors: those of
// Arrive, and ErrWrongCode after MaxWrongCodes wrong codes.
func (b Booking) Start(a Actor) (Event, error) {
	return b.decide(Event{Kind: Started, Actor: a})
}

// RefuseStart decides that rider a gave a wrong start code. Errors: those of Start.
func (b Booking) RefuseStart(a Actor) (Event, error) {
	return b.decide(Event{Kind: StartRefused, Actor: a})
}

// Complete decides that the ride is over. Errors: those of Arrive.
func (b Booking) Complete(a Actor) (Event, error) {
	return b.decide(Event{Kind: Completed, Actor: a})
}

// Cancel decides that the ride does not take place. The reason may be empty. Errors: ErrNotFound,
// ErrWrongRole, ErrWrongState (once the ride has begun), ErrCancelled, ErrCompleted, ErrExpired,
// ErrInvalidReason.
func (b Booking) Cancel(a Actor, reason string) (Event, error) {
	return b.decide(Event{Kind: Cancelled, Actor: a, Details: Details{Reason: reason}})
}

// CancelAsOperator is Cancel by an operator, who may also break off a ride.
func (b Booking) CancelAsOperator(a Actor, reason string) (Event, error) {
	return b.decide(Event{Kind: OperatorCancelled, Actor: a, Details: Details{Reason: reason}})
}

// Release decides that the rider loses the booking, and that others may accept it until deadline.
// The reason may be empty. Errors: those of Arrive, ErrExpired, ErrInvalidReason,
// ErrInvalidDeadline.
func (b Booking) Release(a Actor, deadline time.Time, reason string) (Event, error) {
	return b.decide(Event{Kind: Released, Actor: a, Details: Details{Deadline: deadline, Reason: reason}})
}

// ReleaseAsOperator is Release by an operator.
func (b Booking) ReleaseAsOperator(a Actor, deadline time.Time, reason string) (Event, error) {
	return b.decide(Event{Kind: OperatorReleased, Actor: a, Details: Details{Deadline: deadline, Reason: reason}})
}

// Expire decides, at time now, that nobody accepted the booking in time. Errors: ErrNotFound,
// ErrWrongRole, ErrNotOverdue, ErrAlreadyAccepted, ErrCancelled, ErrCompleted, ErrExpired.
//
// Readers compare the deadline with the time at which the server stored the event, and reject an
// event stored before the deadline. Callers must leave the server's clock time to pass it.
func (b Booking) Expire(a Actor, now time.Time) (Event, error) {
	return b.decide(Event{Kind: Expired, Actor: a, Decided: now})
}

// Rate decides that a gives the ride 1 to 5 stars. Errors: ErrNotFound, ErrWrongRole,
// ErrReleasedByYou, ErrWrongState (before the ride is over), ErrCancelled, ErrExpired,
// ErrAlreadyRated, ErrInvalidStars.
func (b Booking) Rate(a Actor, stars int) (Event, error) {
	kind := Rated
	if a.Role == Rider {
		kind = RiderRated
	}
	return b.decide(Event{Kind: kind, Actor: a, Details: Details{Stars: stars}})
}

func (b Booking) decide(e Event) (Event, error) {
	if err := b.permits(&e); err != nil {
		return Event{}, err
	}
	return e, nil
}
