// Package fleet is where riders are now: who is online, how far they are from a place, and whether they move.
//
// Make a [Map] with [NewMap]. Whoever hears from a rider calls [Map.Move] or [Map.Say] and tells the other instances the [Status] that comes
// back, and they call [Map.Learn]. Everything is in memory, and all of it may be lost: riders report every few seconds.
//
// Nothing here knows of NATS, HTTP or tokens: that a report is its rider's own is verified before it gets here.
package fleet

import (
	"time"

	"pillion/booking"
	"pillion/fault"
)

// A Position is where a rider was when it was reported last. Times are by the clock of the Map, so those of other machines do not matter.
type Position struct {
	booking.Place
	At    time.Time // when the report came
	Moved time.Time // when the rider had last really moved: by more than a Map's Step
}

// A Status is what is known of a rider, as instances tell it to each other. It has all of it, so that one that was lost is made up for by the
// next.
//
// At and Said order what is told of one rider: the greater one is the later. They are milliseconds since 1970 by the clock of whoever
// heard it, or one more than what was known there already, where that is greater; so an instance whose clock is behind is outdated by no other's, as
// long as it has heard of what it follows. Nothing else is made of them: how old a position is, everybody measures by their own clock, and counts on from
// the Age that it had already when it was told.
type Status struct {
	Rider booking.RiderID

	Place booking.Place
	At    int64         // of Place; 0: it is not known
	Age   time.Duration // of Place, when this was told

	Online bool
	Said   int64 // when the rider said so; 0: never, and then it is online
}

// A Neighbour is a rider and how far that is.
type Neighbour struct {
	Rider booking.RiderID
	booking.Place
	Metres float64 // as the crow flies
}

// An Availability says how many free riders are near, and nothing of who they are or where.
type Availability struct {
	Riders int     // MaxRiders is that many or more
	Metres float64 // to the nearest, from the middle of the area that it is in; 0 where there is none
}

// MaxRiders is how far riders are counted.
const MaxRiders = 50

// What is refused.
var (
	ErrNoRider = fault.New(fault.Invalid, "invalid_rider",
		"A rider's id must not be empty.")
	// ErrStatus is that another instance has told nonsense. It is for no client.
	ErrStatus = fault.New(fault.Invalid, "invalid_status",
		"This is not what can be known of a rider.")
)
