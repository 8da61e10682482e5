// Package geo knows how far things are from each other on the earth, and finds those that are nearest to a place.
//
// Put things into an [Index] and ask it for the [Index.Nearest]. A place is an s2.Point, on the unit sphere: nothing here has an edge,
// neither at the poles nor at the antimeridian.
package geo

import (
	"math"

	"github.com/golang/geo/s1"
)

// EarthRadius is the mean radius R1 of the earth (IUGG), in metres.
const EarthRadius = 6371008.8

// Metres returns how long an angle is on the earth.
func Metres(a s1.Angle) float64 { return a.Radians() * EarthRadius }

// angle is the reverse of Metres, half a turn at most.
func angle(metres float64) float64 { return min(metres/EarthRadius, math.Pi) }
