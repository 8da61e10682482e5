package booking

// What may still be stored of a booking until it is over, in messages of a ledger. The acceptance
// has two: itself, and the record that its rider is engaged.
const (
	acceptance = 2
	ratings    = 2
	// toEnd is what always suffices: one that is open expires, or is cancelled.
	toEnd = 1
)

// Remaining returns how many messages of the ledger the booking needs at most until it is over:
// every step of the ride, every wrong start code that is allowed, and both ratings. A booking that
// its rider has given back needs one: it can expire. For anything more it needs room anew, see
// [Booking.Growth]. Nothing is kept for the ratings of a ride that is over.
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

// remainingAccepted is the longest way from an acceptance: arrived, all wrong codes but the last,
// started, completed, both ratings.
const remainingAccepted = 1 + (MaxWrongCodes - 1) + 1 + 1 + ratings

// Growth returns how many messages more than before are to be kept room for once an event of kind k
// has been appended to b, itself among them. It is 0 for every step that room was kept for when the
// booking was made.
func (b *Booking) Growth(k Kind) int {
	switch {
	case k == Requested:
		return 1 + acceptance + remainingAccepted
	case k == Accepted && len(b.ReleasedBy) > 0:
		return acceptance + remainingAccepted - toEnd
	case k == Rated:
		return 1
	}
	return 0
}
