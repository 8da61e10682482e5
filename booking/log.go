package booking

import "context"

// A Log is the event store of bookings, and the only truth: an append is the state change. Package
// bookingtest has the test suite for implementations.
type Log interface {
	// Load returns the history of a booking. It returns the zero History for an unknown booking.
	Load(ctx context.Context, id ID, r Reading) (History, error)

	// Append stores the events of one command, all or none, if the booking's history still equals
	// after. It returns the history with the events, and sets their ID, N, Seq, Command, Booking,
	// Decided and At. Of several appends after the same history, at most one succeeds.
	//
	// ErrMoved says that the history has changed, and that nothing was stored: decide again. The
	// history that comes with it is the changed one if the log has read it (Fresh), or else zero. A
	// fault of kind Unavailable says that the outcome is unknown, or that the log cannot store now.
	//
	// Append refuses acceptances with ErrNotEngaged. They go through Engage.
	Append(ctx context.Context, c Command, id ID, after History, events ...Event) (History, error)

	// Engagement returns the engagement of a rider.
	Engagement(ctx context.Context, rider RiderID, r Reading) (Engagement, error)

	// Engage is Append for an acceptance. In the same write it records the rider's engagement, if
	// the present one still equals at. So of several acceptances by one rider after the same
	// Engagement, at most one succeeds.
	//
	// ErrMoved says that the booking's history or the rider's engagement has changed. ErrNotForYou
	// says that the log has recorded this rider for this booking before.
	Engage(ctx context.Context, c Command, id ID, after History, at Engagement, accepted Event) (History, error)
}

// A Reading is the consistency of a read.
type Reading uint8

// The readings.
const (
	// Quick reads may be stale. They suffice for a decision, because the append checks it.
	Quick Reading = iota
	// Fresh reads include everything that the leader had when the read began. Every answer to a
	// client needs one.
	Fresh
)
