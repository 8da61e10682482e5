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

// Valid returns ErrInvalidPlace unless p is on the earth.
func (p Place) Valid() error {
	// Written so that NaN, which compares as false with everything, is refused.
	if math.Abs(p.Lat) <= 90 && math.Abs(p.Lng) <= 180 {
		return nil
	}
	return ErrInvalidPlace
}

// Distance returns the great-circle distance between two places, in metres.
func (p Place) Distance(to Place) float64 { return geo.Metres(p.latLng().Distance(to.latLng())) }

// Point returns where p is on the unit sphere.
func (p Place) Point() s2.Point { return s2.PointFromLatLng(p.latLng()) }

func (p Place) latLng() s2.LatLng { return s2.LatLngFromDegrees(p.Lat, p.Lng) }
