package booking

import (
	"math"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/internal/geo"
)

// A Place is a point on the earth, in degrees (WGS 84).
type Place struct {
	Lat float64 `json:"lat"` // -90 to 90, north is positive
	Lng float64 `json:"lng"` // -180 to 180, east is positive
}

// Valid returns ErrInvalidPlace if a coordinate is out of range.
func (p Place) Valid() error {
	// NaN fails every comparison, so it is invalid too.
	if math.Abs(p.Lat) <= 90 && math.Abs(p.Lng) <= 180 {
		return nil
	}
	return ErrInvalidPlace
}

// Distance returns the great-circle distance between two places, in metres.
func (p Place) Distance(to Place) float64 { return geo.Metres(p.latLng().Distance(to.latLng())) }

// Rough returns p to three decimals of a degree, some 100 metres: as strangers see it.
func (p Place) Rough() Place { return Place{Lat: roughly(p.Lat), Lng: roughly(p.Lng)} }

func roughly(degrees float64) float64 {
	const decimals = 1000
	return math.Round(degrees*decimals)/decimals + 0 // no -0
}

// Point returns p on the unit sphere.
func (p Place) Point() s2.Point { return s2.PointFromLatLng(p.latLng()) }

func (p Place) latLng() s2.LatLng { return s2.LatLngFromDegrees(p.Lat, p.Lng) }

// A Trip is the pickup and dropoff of a ride. With the zero Trip, user and rider agree on both
// themselves.
type Trip struct{ Pickup, Dropoff *Place } // both, or none

// Valid returns ErrInvalidTrip if only one place is set, or ErrInvalidPlace.
func (t Trip) Valid() error {
	if t.Pickup == nil && t.Dropoff == nil {
		return nil
	}
	if t.Pickup == nil || t.Dropoff == nil {
		return ErrInvalidTrip
	}
	if err := t.Pickup.Valid(); err != nil {
		return err
	}
	return t.Dropoff.Valid()
}

// equal reports whether two trips have the same places.
func (t Trip) equal(o Trip) bool {
	return samePlace(t.Pickup, o.Pickup) && samePlace(t.Dropoff, o.Dropoff)
}

func samePlace(p, q *Place) bool {
	if p == nil || q == nil {
		return p == q
	}
	return *p == *q
}

// clone returns a pointer to a copy of what p points to, or nil.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}
