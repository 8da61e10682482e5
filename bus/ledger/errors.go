package ledger

import (
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// Errors of appending.
var (
	ErrOutcomeUnknown = fault.New(fault.Unavailable, "outcome_unknown",
		"We could not confirm in time whether this was recorded.").After(2 * time.Second).Unsure(
		"GET /bookings shows it if it was. With an Idempotency-Key a request can be sent again without being done twice.")
	// errNotRecorded is bus.ErrUnavailable for an event that certainly was not stored.
	errNotRecorded = bus.ErrUnavailable.Saying(
		"The booking system cannot reach its message bus at the moment. Nothing was recorded. Please try again in a few seconds.")
	// ErrFull refuses events that reserve room: a new booking, a new search for a rider, a rating.
	ErrFull = fault.New(fault.Unavailable, "ledger_full",
		"No new bookings can be taken at the moment: the remaining storage is reserved for current rides. Please "+
			"try again later.").After(time.Minute)
	// ErrNoRoom refuses every event.
	ErrNoRoom = fault.New(fault.Unavailable, "no_room",
		"Nothing can be recorded at the moment, because the storage is full. Nothing was changed. Please try "+
			"again in a minute.").After(time.Minute)
	// ErrNotCaughtUp says that the board has not reached the end that the ledger had when following
	// began.
	ErrNotCaughtUp = fault.New(fault.Unavailable, "catching_up",
		"The list of bookings is still being read. Please try again in a moment.").After(time.Second)
)
