package booking

import (
	"time"

	"github.com/example/pillion/internal/fault"
)

// retryAfter is the delay after which a client may retry a command that lost too many races.
const retryAfter = time.Second

// Refusals of commands. Their codes are stable.
var (
	// ErrNotFound is also the refusal of everybody who is no party to the booking: that it exists
	// is known to its parties only.
	ErrNotFound = fault.New(fault.NotFound, "booking_not_found",
		"There is no such booking. Check the booking_id, which was in the answer to the booking.")
	ErrAlreadyAccepted = fault.New(fault.Conflict, "already_accepted",
		"Another raider has already accepted this booking. Please choose another one.")
	ErrCancelled = fault.New(fault.Conflict, "booking_cancelled",
		"This booking was cancelled. Please choose another one, or book again.")
	ErrExpired = fault.New(fault.Conflict, "booking_expired",
		"Nobody accepted this booking in time, so it has expired. Please choose another one, or book again.")
	ErrCompleted = fault.New(fault.Conflict, "booking_completed",
		"This ride is already over. Its passenger and raider can only rate it.")
	ErrRiderBusy = fault.New(fault.Conflict, "rider_busy",
		"You have an unfinished ride. Complete it or give it back before you accept another.")
	ErrRideUnderWay = fault.New(fault.Conflict, "ride_under_way",
		"You have an unfinished ride. Cancel it, or wait until it is over, before you delete your account.")
	ErrNotForYou = fault.New(fault.Conflict, "not_for_you",
		"You have already had this booking and cannot accept it again. Please choose another one.")
	ErrWrongRole = fault.New(fault.Forbidden, "wrong_role",
		"Your role does not permit this. Log in with a role that does.")
	ErrWrongCode = fault.New(fault.Conflict, "wrong_start_code",
		"Wrong start code. Ask the passenger for the four digits.")
	// ErrReleasedByYou has the same code where the system has released the booking. The sentence of
	// a Desk says who has.
	ErrReleasedByYou = fault.New(fault.Conflict, "released_by_you",
		"You have given this booking back and cannot have it again. Please choose another one.")
	ErrKeyReused = fault.New(fault.Unprocessable, "key_reused",
		"This Idempotency-Key was used for another request. Send this request with a new key.")
	ErrWrongState = fault.New(fault.Conflict, "wrong_state",
		"This is not possible in the booking's present state. Check the state of the booking.")
	ErrNotOverdue = fault.New(fault.Conflict, "not_overdue",
		"The deadline of this booking has not passed yet. Try again after the deadline.")
	ErrTooFar = fault.New(fault.Invalid, "too_far",
		"The trip is too long. Choose places that are nearer to each other.")
	ErrSamePlace = fault.New(fault.Invalid, "same_place",
		"Pickup and dropoff are the same place. Choose another dropoff, or give neither of them.")
	ErrAlreadyRated = fault.New(fault.Conflict, "already_rated",
		"You have already rated this ride, and a rating cannot be changed.")
	ErrContended = fault.New(fault.Unavailable, "booking_contended",
		"Too many requests are changing this booking. Please try again in a moment.").After(retryAfter)
)

// Commands that are invalid whatever the state of the booking.
var (
	ErrInvalidID = fault.New(fault.Invalid, "invalid_booking_id",
		"The booking id must be 26 characters from a to z and 2 to 7, as in the answer to the booking.")
	ErrInvalidCommand = fault.New(fault.Invalid, "invalid_command",
		"A command needs an id of 26 characters from a to z and 2 to 7, and an actor with an id.")
	ErrInvalidPlace = fault.New(fault.Invalid, "invalid_place",
		"A place needs a lat from -90 to 90 and a lng from -180 to 180, in degrees.")
	ErrInvalidTrip = fault.New(fault.Invalid, "invalid_trip",
		"Give both pickup and dropoff, or neither.")
	ErrInvalidQuote = fault.New(fault.Invalid, "invalid_quote",
		"The quote has figures that no trip can have. Request a new quote.")
	ErrInvalidReason = fault.New(fault.Invalid, "invalid_reason",
		"A reason must be one line of at most 280 characters, without control or formatting characters.")
	ErrInvalidStars = fault.New(fault.Invalid, "invalid_stars",
		"A rating must be 1, 2, 3, 4 or 5 stars.")
	ErrInvalidState = fault.New(fault.Invalid, "invalid_state",
		"A state must be one of open, accepted, arrived, started, completed, cancelled and expired.")
	ErrInvalidDeadline = fault.New(fault.Invalid, "invalid_deadline",
		"A booking needs a deadline between the years 1970 and 2262.")
)

// Errors between readers and writers of a ledger. Clients do not see them.
var (
	// ErrMoved says that the history has changed since a decision, and that nothing was stored.
	// Load the history and decide again.
	ErrMoved = fault.New(fault.Conflict, "moved",
		"The booking has changed in the meantime. Please try again.")
	// ErrDoesNotFollow says that an event is not possible after the events before it. Its cause is
	// the reason.
	ErrDoesNotFollow = fault.New(fault.Internal, "does_not_follow",
		"The event does not follow from the booking's history.")
	// ErrDuplicate says that an event was applied before.
	ErrDuplicate = fault.New(fault.Internal, "duplicate",
		"An event with this id is already in the booking's history.")
	// ErrAged says that the first events of the booking have aged out of the ledger.
	ErrAged = fault.New(fault.Internal, "aged",
		"The beginning of the booking's history is no longer in the ledger.")
	// ErrNotEngaged says that an acceptance has no record, directly before it, that its rider is
	// engaged in the booking.
	ErrNotEngaged = fault.New(fault.Internal, "not_engaged",
		"The acceptance has no record that its rider is engaged.")
	// ErrPosition says that an event is not at the next position of its booking.
	ErrPosition = fault.New(fault.Internal, "position",
		"The event is not at the next position of the booking's history.")
)

// unfinished returns a refusal because of a ride under way. It names the booking, and what a user
// or rider can do now to end it.
func unfinished(b Booking, who Role, refusal *fault.Error, before string) error {
	var end string
	switch call := "POST /bookings/" + string(b.ID); {
	case who == Rider && b.State == StateStarted:
		end = "Complete it with " + call + "/complete"
	case who == Rider:
		end = "Complete it, or give it back with " + call + "/release,"
	case b.State == StateStarted:
		end = "Wait until it is over"
	default:
		end = "Cancel it with " + call + "/cancel, or wait until it is over,"
	}
	return refusal.Sayingf("You have an unfinished ride, booking %s. %s %s.", b.ID, end, before)
}
