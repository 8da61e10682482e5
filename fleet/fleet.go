// Package fleet is where riders are now: who is online, how far they are from a place, and whether
// they come nearer to their pickup.
//
// Make a [Map] with [NewMap]. Whoever hears from a rider calls [Map.Move] or [Map.Say] and tells
// the other instances the [Status] that comes back, and they call [Map.Learn]. Everything is in
// memory, and all of it may be lost: riders report every few seconds.
//
// Receivers err, and some people lie. So a Map does not believe every report; see [Map.Move].
//
// Nothing here knows of NATS, HTTP or tokens: that a report is its rider's own is verified before
// it gets here.
package fleet

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// A Fix is what a rider reports: where its receiver has found it.
type Fix struct {
	booking.Place
	At       time.Time // when it was there; zero: now
	Accuracy float64   // how far off Place may be, in metres; 0: the receiver does not say
}

// A Position is where a rider was last. Times are by the clock of the Map, so those of other
// machines do not matter.
type Position struct {
	booking.Place
	At    time.Time // when the rider was there
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

	Place    booking.Place
	At       int64         // of Place; 0: it is not known
	Age      time.Duration // of Place, when this was told
	Accuracy float64       // of Place, in metres; 0: it is not known

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

// A Verdict is what a Map makes of a report.
type Verdict string

// The verdicts.
const (
	Taken  Verdict = ""       // it is where the rider is
	Late   Verdict = "late"   // it is not newer than what is known, or is a repetition
	Leap   Verdict = "leap"   // nobody gets that far in that time
	Coarse Verdict = "coarse" // it is not accurate enough to say anything
)

const (
	// FixAge is how old a report may be, and fixSkew how far ahead of the clock: clocks differ a
	// little.
	FixAge  = 5 * time.Minute
	fixSkew = 5 * time.Second
	// Coarsest is how inaccurate a report may be, in metres.
	Coarsest = 500
	// errors of receivers that are allowed for where they do not say how accurate they are, and at
	// most, both ends together, in metres.
	usualError, mostError = 100, 300
	// doubt is for how long reports must confirm each other to be believed rather than what they
	// contradict. What is farther apart in time confirms nothing.
	doubt = 30 * time.Second
	// farthest is how far from the pickup a position is told, in metres.
	farthest = 50_000
	// nowhere is how near to 0, 0 nobody can be, in degrees.
	nowhere = 0.001
)

// What is refused.
var (
	ErrNoRider = fault.New(fault.Invalid, "invalid_rider",
		"A rider's id must not be empty.")
	ErrNullIsland = fault.New(fault.Invalid, "null_island",
		"Latitude 0 and longitude 0 is what a receiver says that has found no place. Report the position once it has found one.")
	ErrFixTime = fault.New(fault.Invalid, "invalid_position_time",
		"The time at of a position must not be ahead of the clock, and at most 5 minutes old. Set the device's clock, or leave at out: then it is now.")
	ErrAccuracy = fault.New(fault.Invalid, "invalid_accuracy",
		"The accuracy of a position must be a number of metres, 0 or more.")
	// ErrStatus is that another instance has told nonsense. It is for no client.
	ErrStatus = fault.New(fault.Invalid, "invalid_status",
		"This is not what can be known of a rider.")
)
