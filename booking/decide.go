package booking

import "time"

// The decisions: each returns the event that a command causes, with Kind, Actor and Details filled, or the reason why not, in the
// words that the actor is told. None changes anything. Whoever stores the event gives it its id, booking, command and position.

// Request decides that a asks for a ride, to be accepted by deadline. quote is what the trip comes to, or nil. Errors: ErrWrongRole,
// ErrInvalidTrip, ErrInvalidPlace, ErrInvalidQuote, ErrInvalidDeadline.
func Request(a Actor, trip Trip, quote *Quote, deadline time.Time) (Event, error) {
	return Booking{}.decide(Event{Kind: Requested, Actor: a, Details: Details{
		Pickup: trip.Pickup, Dropoff: trip.Dropoff, Quote: quote, Deadline: deadline,
	}})
}

// Accept decides that rider a takes the booking at time now. Errors: ErrNotFound, ErrWrongRole, ErrAlreadyAccepted (also by a),
// ErrReleasedByYou, ErrCancelled, ErrCompleted, and ErrExpired, also where the deadline has passed and nobody has said so yet.
func (b Booking) Accept(a Actor, now time.Time) (Event, error) {
	e, err := b.decide(Event{Kind: Accepted, Actor: a})
	if err == nil && b.Overdue(now) {
		return Event{}, ErrExpired
	}
	return e, err
}

// Arrive decides that rider a is at the pickup. Errors: ErrNotFound, ErrWrongRole, ErrNotYours, ErrReleasedByYou, ErrWrongState,
// ErrCancelled, ErrCompleted.
func (b Booking) Arrive(a Actor) (Event, error) {
	return b.decide(Event{Kind: Arrived, Actor: a})
}

// Start decides that the ride begins. That the start code is right is for the caller to know. Errors: those of Arrive, and
// ErrWrongCode after MaxWrongCodes wrong ones.
func (b Booking) Start(a Actor) (Event, error) {
	return b.decide(Event{Kind: Started, Actor: a})
}

// RefuseStart decides that rider a has given a wrong start code. Errors: those of Start.
func (b Booking) RefuseStart(a Actor) (Event, error) {
	return b.decide(Event{Kind: StartRefused, Actor: a})
}

// Complete decides that the ride is over. Errors: those of Arrive.
func (b Booking) Complete(a Actor) (Event, error) {
	return b.decide(Event{Kind: Completed, Actor: a})
}

// Cancel decides that the ride does not take place. The reason may be empty. Errors: ErrNotFound, ErrWrongRole, ErrNotYours,
// ErrWrongState (a user, once the ride has begun), ErrCancelled, ErrCompleted, ErrExpired, ErrInvalidReason.
func (b Booking) Cancel(a Actor, reason string) (Event, error) {
	return b.decide(Event{Kind: Cancelled, Actor: a, Details: Details{Reason: reason}})
}

// Release decides that the rider loses the booking, and that it is open to others until deadline. The reason may be empty. Errors:
// those of Arrive, ErrExpired, ErrInvalidReason, ErrInvalidDeadline.
func (b Booking) Release(a Actor, deadline time.Time, reason string) (Event, error) {
	return b.decide(Event{Kind: Released, Actor: a, Details: Details{Deadline: deadline, Reason: reason}})
}

// Expire decides, at time now, that nobody has accepted the booking in time. Errors: ErrNotFound, ErrWrongRole, ErrNotOverdue,
// ErrAlreadyAccepted, ErrCancelled, ErrCompleted, ErrExpired.
//
// Readers compare the deadline with the time at which the server stored the event, and allow nothing before it: whoever expires
// bookings should do so late enough for the server's clock to have passed the deadline too.
func (b Booking) Expire(a Actor, now time.Time) (Event, error) {
	return b.decide(Event{Kind: Expired, Actor: a, Decided: now})
}

// Rate decides that a gives the ride 1 to 5 stars. Errors: ErrNotFound, ErrWrongRole, ErrNotYours, ErrReleasedByYou, ErrWrongState
// (before it is over), ErrCancelled, ErrExpired, ErrAlreadyRated, ErrInvalidStars.
func (b Booking) Rate(a Actor, stars int) (Event, error) {
	return b.decide(Event{Kind: Rated, Actor: a, Details: Details{Stars: stars}})
}

func (b Booking) decide(e Event) (Event, error) {
	if err := b.permits(&e); err != nil {
		return Event{}, err
	}
	return e, nil
}
