// Package fleet tracks where riders are: who is online, who is near a place, and whether a rider
// comes nearer to the pickup.
//
// Make a [Map] with [NewMap]. The instance that hears from a rider calls [Map.Report] or
// [Map.SetOnline] and sends the returned [Status] to the other instances, which call [Map.Learn].
// A Map does not believe every report, because receivers err and some people lie; see
// [Map.Report].
//
// Everything is in memory and may be lost: riders report every few seconds. The package knows no
// NATS, HTTP or tokens. Callers verify that a report is its rider's own before they pass it on.
package fleet

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// A Fix is a rider's report of a position, as its receiver found it.
type Fix struct {
	booking.Place
	At       time.Time // when the rider was there; zero: now
	Accuracy float64   // radius of the error in metres; 0: unknown
}

// A Position is the last known position of a rider. Its times are by the Map's clock, so clocks of
// other machines do not affect them.
type Position struct {
	booking.Place
	At    time.Time // when the rider was there
	Moved time.Time // when the rider last got farther than Options.MinMove
}

// A Status is what one instance tells the others about a rider. It is complete, so the next one
// makes up for one that was lost.
//
// At and Said order the statuses of a rider: the greater is the later. They are milliseconds since
// 1970 by the clock of the instance that heard the rider, or one more than that instance's last
// value where that is greater. An instance whose clock is behind therefore still supersedes what it
// has learned. They serve no other purpose. Each instance measures the age of a position by its own
// clock, starting at Age.
type Status struct {
	Rider booking.RiderID

	Place    booking.Place
	At       int64         // version of Place; 0: the position is unknown
	Age      time.Duration // age of Place when this status was sent
	Accuracy float64       // radius of the error of Place in metres; 0: unknown

	Online bool
	Said   int64 // version of Online; 0: the rider has never said, and counts as online
}

// A Neighbour is a rider near a place.
type Neighbour struct {
	Rider booking.RiderID
	booking.Place
	Metres float64 // distance as the crow flies
}

// An Availability says how many free riders are near a place, but not who or where they are.
type Availability struct {
	Riders int     // at most MaxCount, which means that many or more
	Metres float64 // distance to the middle of the nearest rider's area; 0: there is no rider
}

// MaxCount is the highest number of riders that an Availability reports.
const MaxCount = 50

// A Verdict is a Map's decision on a report.
type Verdict string

// The verdicts.
const (
	Believed    Verdict = ""       // the rider is there now
	Stale       Verdict = "late"   // the report is not newer than the known position, or repeats it
	Implausible Verdict = "leap"   // no bike gets that far in that time
	Inaccurate  Verdict = "coarse" // the error exceeds MaxInaccuracy
)

// Bounds of a Fix.
const (
	MaxFixAge     = 5 * time.Minute // age of a report
	MaxInaccuracy = 500             // radius of its error, in metres

	maxFixAhead = 5 * time.Second // how far its time may be ahead of the clock
	nullIsland  = 0.001           // how far around 0, 0 no rider can be, in degrees
)

// The errors of a Map.
var (
	ErrNoRider = fault.New(fault.Invalid, "invalid_rider",
		"A rider's id must not be empty.")
	ErrNullIsland = fault.New(fault.Invalid, "null_island",
		"Latitude 0 and longitude 0 is the position of a receiver without a fix. "+
			"Report the position once the receiver has one.")
	ErrFixTime = fault.New(fault.Invalid, "invalid_position_time",
		"The time of a position (at) must not be in the future, nor more than 5 minutes ago. "+
			"Set the device's clock, or omit at to mean now.")
	ErrAccuracy = fault.New(fault.Invalid, "invalid_accuracy",
		"The accuracy of a position must be a number of metres, 0 or more.")
	// ErrStatus rejects an impossible status from another instance. No client sees it.
	ErrStatus = fault.New(fault.Invalid, "invalid_status",
		"The status of a rider has impossible values.")
)
