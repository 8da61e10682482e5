package inspect

import (
	"fmt"

	"github.com/example/pillion/booking"
)

// A Finding is one thing that an inspection of the ledger has found and that should not be. Forgeries are none: every reader refuses them,
// and they are counted.
type Finding struct {
	What    What
	Seq     uint64          // where in the ledger; of what is missing, where it was said to be, or 0
	Booking booking.ID      // or ""
	Rider   booking.RiderID // or ""
	Detail  string          // for people
}

// What says what was found. The names are for programs.
type What string

// What can be found.
const (
	// FoundTwoRiders is an acceptance, with its rider's good token, of a booking that another rider has. Where readers refuse it, as they
	// should, the booking is still the first rider's, and yet the second may have been told that it was won.
	FoundTwoRiders What = "two_riders"
	// FoundTwoRides is an acceptance by a rider who is under way for another booking.
	FoundTwoRides What = "two_rides"
	// FoundNotEngaged is an acceptance without the record, in the message before, that its rider is engaged.
	FoundNotEngaged What = "not_engaged"
	// FoundEngagedAlone is such a record without its acceptance in the message after.
	FoundEngagedAlone What = "engaged_alone"
	// FoundUnfollowed is an event with a good token that does not follow from those before it: no guard would have let it in.
	FoundUnfollowed What = "does_not_follow"
	// FoundGap is where messages of the ledger are gone, other than by age.
	FoundGap What = "gap"
	// FoundOverdue is a booking that waits for a rider long after its deadline.
	FoundOverdue What = "overdue"
	// FoundMissing is an event that somebody was told of and that is not there.
	FoundMissing What = "missing"
)

// String returns the finding on one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s at %d", f.What, f.Seq)
	if f.Booking != "" {
		s += ", booking " + string(f.Booking)
	}
	if f.Rider != "" {
		s += ", rider " + string(f.Rider)
	}
	return s + ": " + f.Detail
}
