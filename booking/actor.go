package booking

import "slices"

// A Role is the role of an actor, as the wire spells it.
type Role string

// The roles.
const (
	User    Role = "user"    // the passenger, who books
	Rider   Role = "raider"  // the driver, who accepts
	Service Role = "service" // one of our own processes, acting for the system
)

// An Actor is a person or process that causes events.
type Actor struct {
	ID   string
	Role Role
}

// MayBeCausedBy reports whether actors of role r may cause events of kind k in some booking.
// [Booking.Apply] decides for a given actor and booking.
func (k Kind) MayBeCausedBy(r Role) bool { return slices.Contains(causers[k], r) }

// causers are the roles that may cause events of a kind.
var causers = map[Kind][]Role{
	Requested: {User},
	Accepted:  {Rider}, Arrived: {Rider}, Started: {Rider}, StartRefused: {Rider}, Completed: {Rider},
	Cancelled: {User, Service}, Released: {Rider, Service}, Expired: {Service},
	Rated:      {User, Rider}, // a rider's is of an older build; see RiderRated
	RiderRated: {Rider}, OperatorCancelled: {Service}, OperatorReleased: {Service},
}
