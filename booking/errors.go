package booking

import (
	"time"

	"github.com/example/pillion/internal/fault"
)

// retryAfter is when a command that met too many others may be tried again.
const retryAfter = time.Second

// What a command may be told instead of success. Each is a typed loss with a stable code.
var (
	ErrNotFound = fault.New(fault.NotFound, "booking_not_found",
		"There is no such booking. Check the booking_id that you were given when the ride was booked.")
	ErrAlreadyAccepted = fault.New(fault.Conflict, "already_accepted",
		"Another raider has already accepted this booking. Please choose another one.")
	ErrCancelled = fault.New(fault.Conflict, "booking_cancelled",
		"This booking has been cancelled. Please choose another one, or book anew.")
	ErrExpired = fault.New(fault.Conflict, "booking_expired",
		"Nobody accepted this booking in time, so it has expired. Please choose another one, or book anew.")
	ErrCompleted = fault.New(fault.Conflict, "booking_completed",
		"This ride is already over. Nothing more can be done with it, except to rate it.")
	ErrRiderBusy = fault.New(fault.Conflict, "rider_busy",
		"You have a ride that is not over yet. Complete it or give it back before you accept another.")
	ErrRideUnderWay = fault.New(fault.Conflict, "ride_under_way",
		"You have a ride that is not over yet. Cancel it or let it end, and delete your account then.")
	ErrNotForYou = fault.New(fault.Conflict, "not_for_you",
		"You had this booking before, or somebody has pretended so, and cannot have it again. Please choose another one.")
	ErrNotYours = fault.New(fault.Forbidden, "not_your_booking",
		"This is not your booking. Check the booking_id.")
	ErrWrongRole = fault.New(fault.Forbidden, "wrong_role",
		"Somebody in your role cannot do this. Log in with the role that can.")
	ErrWrongCode = fault.New(fault.Conflict, "wrong_start_code",
		"This is not the start code of this ride. Ask the passenger for the four digits.")
	ErrReleasedByYou = fault.New(fault.Conflict, "released_by_you",
		"You have given this booking back, so you cannot have it again. Please choose another one.")
	ErrKeyReused = fault.New(fault.Unprocessable, "key_reused",
		"This Idempotency-Key has been used for another request. Send this one with a new key.")
	ErrWrongState = fault.New(fault.Conflict, "wrong_state",
		"This is not possible at this stage of the ride. Look at the booking to see how far it is.")
	ErrNotOverdue = fault.New(fault.Conflict, "not_overdue",
		"The deadline of this booking has not passed yet. Try again after it.")
	ErrTooFar = fault.New(fault.Invalid, "too_far",
		"This is too far for a ride. Choose places that are nearer to each other.")
	ErrAlreadyRated = fault.New(fault.Conflict, "already_rated",
		"You have already rated this ride. A rating cannot be changed.")
	ErrContended = fault.New(fault.Unavailable, "booking_contended",
		"Too much is happening to this booking right now. Please try again in a moment.").After(retryAfter)
)

// What is wrong with what a command asks for.
var (
	ErrInvalidID = fault.New(fault.Invalid, "invalid_booking_id",
		"The booking id must be 26 characters of a to z and 2 to 7, as it was given when the ride was booked.")
	ErrInvalidCommand = fault.New(fault.Invalid, "invalid_command",
		"A command needs an id of 26 characters of a to z and 2 to 7, and an actor with an id.")
	ErrInvalidPlace = fault.New(fault.Invalid, "invalid_place",
		"A place needs a lat from -90 to 90 and a lng from -180 to 180, in degrees.")
	ErrInvalidTrip = fault.New(fault.Invalid, "invalid_trip",
		"Give both pickup and dropoff, or neither.")
	ErrInvalidQuote = fault.New(fault.Invalid, "invalid_quote",
		"These figures are not those of a trip. Ask for a quote, and book as it says.")
	ErrInvalidReason = fault.New(fault.Invalid, "invalid_reason",
		"A reason may have at most 280 characters, on one line and without control or formatting characters.")
	ErrInvalidStars = fault.New(fault.Invalid, "invalid_stars",
		"A rating must be 1, 2, 3, 4 or 5 stars.")
	ErrInvalidState = fault.New(fault.Invalid, "invalid_state",
		"A state must be one of open, accepted, arrived, started, completed, cancelled and expired.")
	ErrInvalidDeadline = fault.New(fault.Invalid, "invalid_deadline",
		"A booking needs a deadline between the years 1970 and 2262.")
)

// What readers and writers of a ledger tell each other. None of them is for clients.
var (
	// ErrMoved says that a history is no longer what a decision was based on, and that nothing was stored: reload and decide again.
	ErrMoved = fault.New(fault.Conflict, "moved",
		"The booking has changed in the meantime. Please try again.")
	// ErrDoesNotFollow says that an event is not possible after the events before it. Its cause says why.
	ErrDoesNotFollow = fault.New(fault.Internal, "does_not_follow",
		"The event does not follow from the booking's history.")
	// ErrDuplicate says that an event has been applied already.
	ErrDuplicate = fault.New(fault.Internal, "duplicate",
		"An event with this id is already in the booking's history.")
	// ErrAged says that an event belongs to a booking whose beginning has aged out of the ledger.
	ErrAged = fault.New(fault.Internal, "aged",
		"The beginning of the booking's history is no longer in the ledger.")
	// ErrPosition says that an event is not at the next position of its booking.
	ErrPosition = fault.New(fault.Internal, "position",
		"The event is not at the next position of the booking's history.")
)
