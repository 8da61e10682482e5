package booking

// Numbers of ledger messages that a booking may still need.
const (
	acceptance = 2 // the event, and the record of the rider's engagement
	ratings    = 2
	toEnd      = 1 // an open booking expires or is cancelled

	// remainingAccepted is the longest course after an acceptance: arrived, all wrong codes but the
	// last, started, completed, both ratings.
	remainingAccepted = 1 + (MaxWrongCodes - 1) + 1 + 1 + ratings
)

// Remaining returns how many ledger messages the booking needs at most until it is over. It counts
// every step of the ride, every permitted wrong start code, and both ratings. A released booking
// needs one, because it can expire; its next acceptance needs more room, see [Booking.Growth]. A
// completed booking needs none: nothing is reserved for its ratings.
func (b *Booking) Remaining() int {
	switch b.State {
	case StateOpen:
		if len(b.ReleasedBy) > 0 {
			return toEnd
		}
		return acceptance + remainingAccepted
	case StateAccepted:
		return remainingAccepted
	case StateArrived:
		return remainingAccepted - 1 - b.WrongCodes
	case StateStarted:
		return 1 + ratings
	}
	return 0
}

// Growth returns how many more ledger messages must be reserved when an event of kind k is appended
// to b, including the event. It is 0 for steps that the reservation of the booking covers.
func (b *Booking) Growth(k Kind) int {
	switch {
	case k == Requested:
		return 1 + acceptance + remainingAccepted
	case k == Accepted && len(b.ReleasedBy) > 0:
		return acceptance + remainingAccepted - toEnd
	case k.IsRating():
		return 1
	}
	return 0
}
