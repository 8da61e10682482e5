package booking

import "time"

// A Heading is the pickup that a rider is on the way to.
type Heading struct {
	Pickup Place
	Seq    uint64    // of the acceptance
	Since  time.Time // when the rider accepted the booking
}

// An Approach is how much nearer a rider has come to a pickup. If the booking has no pickup, it is
// how the rider moves.
type Approach struct {
	At     time.Time // when the rider last came nearer than ever before; zero: never
	Metres float64   // how much nearer the rider has come in all; 0 if there is no pickup
}
