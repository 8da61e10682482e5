package inspect

import (
	"fmt"

	"github.com/example/pillion/booking"
)

// A Finding is something in the ledger that should not be. Forgeries are not findings: every reader
// rejects them, and they are counted.
type Finding struct {
	// What names a kind of finding, for programs.
	What What
	// where in the ledger; of a missing event, where it was said to be, or 0
	Seq     uint64
	Booking booking.ID      // or ""
	Rider   booking.RiderID // or ""
	Detail  string          // for people
}

// What says what was found. The names are for programs.
type What string

// What can be found.
const (
	// FoundTwoRiders is an acceptance, with its rider's valid token, of a booking that another
	// rider has. Readers should reject it, and then the booking is still the first rider's; but the
	// second one may have been told that they have it.
	FoundTwoRiders What = "two_riders"
	// FoundTwoRides is an acceptance by a rider who already has another booking.
	FoundTwoRides What = "two_rides"
	// FoundNotEngaged is an acceptance, with its rider's valid token, without the engagement record
	// in the message before. Readers reject it, unless an older build has stored it.
	FoundNotEngaged What = "not_engaged"
	// FoundEngagedAlone is an engagement record without the acceptance in the message behind.
	FoundEngagedAlone What = "engaged_alone"
	// FoundUnfollowed is an event with a valid token that does not follow from the earlier ones: no
	// guard would have let it pass.
	FoundUnfollowed What = "does_not_follow"
	// FoundGap is where messages of the ledger are missing, other than by age.
	FoundGap What = "gap"
	// FoundOverdue is a booking that is open long after its deadline.
	FoundOverdue What = "overdue"
	// FoundMissing is an acknowledged event that is not there.
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
