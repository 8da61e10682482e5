package ledger

import (
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// What Append and its callers are told when nothing could be stored, or nobody knows.
var (
	ErrOutcomeUnknown = fault.New(fault.Unavailable, "outcome_unknown",
		"We could not confirm in time whether this was recorded.").After(2 * time.Second).Unsure(
		"GET /bookings shows it if it was. With an Idempotency-Key a request can be sent again without being done twice.")
	// errNotRecorded is ErrUnavailable of what was not sent, or was refused for the moment.
	errNotRecorded = bus.ErrUnavailable.Saying(
		"The booking system cannot reach its message bus at the moment. Nothing was recorded. Please try again in a few seconds.")
	// ErrLedgerFull is for what begins something: a booking, another try of one that was given back, a rating.
	ErrFull = fault.New(fault.Unavailable, "ledger_full",
		"No new bookings can be taken at the moment: what room is left is kept for the rides that there are. Please try again later.").After(time.Minute)
	// ErrNoRoom is for everything else, and for everybody.
	ErrNoRoom = fault.New(fault.Unavailable, "no_room",
		"Nothing can be recorded at the moment, for there is no room left. Nothing was changed. Please try again in a minute.").After(time.Minute)
)
