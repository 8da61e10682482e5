// Package geo measures distances on the earth and finds the things nearest to a place.
//
// Call [Index.Add] for each thing, then [Index.Nearest]. A place is an s2.Point on the unit sphere,
// so the poles and the antimeridian need no special cases.
package geo

import (
	"math"

	"github.com/golang/geo/s1"
)

// EarthRadius is the mean radius R1 of the earth (IUGG), in metres.
const EarthRadius = 6371008.8

// Metres returns the length of an angle on the earth's surface.
func Metres(a s1.Angle) float64 { return a.Radians() * EarthRadius }

// angle is the inverse of Metres. It returns at most half a turn.
func angle(metres float64) float64 { return min(metres/EarthRadius, math.Pi) }
