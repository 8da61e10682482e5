package booking

import (
	"errors"
	"fmt"
	"math"
)

// A Tariff is what rides cost and how fast they are. It is not known where the roads are: a trip's length is the distance as the crow
// flies times Detour.
type Tariff struct {
	Currency     string  `json:"currency"`   // ISO 4217: three capital letters
	Base         int64   `json:"base"`       // for any ride; this and all other prices in minor units of the currency (cents, paise)
	PerKilometre int64   `json:"per_km"`     //
	PerMinute    int64   `json:"per_minute"` //
	Minimum      int64   `json:"minimum"`    // what a ride costs at least
	Speed        float64 `json:"speed_kmh"`  // on average, in km/h
	Detour       float64 `json:"detour"`     // length by road over that of the straight line, at least 1
	Longest      float64 `json:"longest_km"` // by road; what is longer is refused
}

// DefaultTariff returns the tariff where an operator gives none.
func DefaultTariff() Tariff {
	return Tariff{Currency: "INR", Base: 2000, PerKilometre: 800, PerMinute: 50, Minimum: 3000, Speed: 22, Detour: 1.3, Longest: 100}
}

// Bounds of a Tariff, within which no fare overflows.
const (
	maxPrice   = 1_000_000_000 // minor units
	maxSpeed   = 200           // km/h
	maxDetour  = 5
	maxLongest = 1000 // km
)

// Valid returns nil, or all that is wrong with the tariff, joined.
func (t Tariff) Valid() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !validCurrency(t.Currency) {
		say("currency must be a code of ISO 4217, three capital letters such as EUR, not %q", t.Currency)
	}
	for _, p := range []struct {
		name  string
		price int64
	}{{"base", t.Base}, {"per_km", t.PerKilometre}, {"per_minute", t.PerMinute}, {"minimum", t.Minimum}} {
		if p.price < 0 || p.price > maxPrice {
			say("%s must be from 0 to %d minor units of the currency, not %d", p.name, maxPrice, p.price)
		}
	}
	for _, f := range []struct {
		name               string
		value, least, most float64
	}{{"speed_kmh", t.Speed, 1, maxSpeed}, {"detour", t.Detour, 1, maxDetour}, {"longest_km", t.Longest, 0.1, maxLongest}} {
		if !(f.value >= f.least && f.value <= f.most) { // so that NaN is refused
			say("%s must be from %v to %v, not %v", f.name, f.least, f.most, f.value)
		}
	}
	return errors.Join(wrong...)
}

// A Quote is what a trip comes to: how long it is, how long it takes and what it costs. The names are the wire's.
type Quote struct {
	Metres   int64  `json:"distance_m"` // by road, estimated
	Minutes  int64  `json:"minutes"`    // estimated, begun ones counted in full
	Fare     int64  `json:"fare"`       // in minor units of the currency
	Currency string `json:"currency"`   // ISO 4217
}

// Bounds of a Quote: what no tariff reaches.
const (
	maxMetres  = 2 * maxLongest * 1000
	maxMinutes = 60 * 2 * maxLongest
	maxFare    = 1 << 53 // what every reader of JSON holds exactly
)

// valid returns ErrInvalidQuote for figures that no tariff gives.
func (q Quote) valid() error {
	for _, f := range [...]struct{ value, most int64 }{{q.Metres, maxMetres}, {q.Minutes, maxMinutes}, {q.Fare, maxFare}} {
		if f.value < 0 || f.value > f.most {
			return ErrInvalidQuote
		}
	}
	if !validCurrency(q.Currency) {
		return ErrInvalidQuote
	}
	return nil
}

func (q *Quote) clone() *Quote {
	if q == nil {
		return nil
	}
	c := *q
	return &c
}

func validCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

// Quote returns what a trip comes to, or nil for one without places. The tariff must be valid. The same trip always comes to the same.
//
// Errors: ErrInvalidTrip, ErrInvalidPlace, and ErrTooFar for a trip that is longer than the tariff's longest.
func (t Tariff) Quote(trip Trip) (*Quote, error) {
	if err := trip.Valid(); err != nil {
		return nil, err
	}
	if trip.Pickup == nil {
		return nil, nil
	}
	metres := math.Round(trip.Pickup.Distance(*trip.Dropoff) * t.Detour)
	if metres > t.Longest*1000 {
		return nil, ErrTooFar.Saying(fmt.Sprintf(
			"This is too far: raiders ride %g km at most, and it would be %.1f km. Choose places that are nearer to each other.", t.Longest, metres/1000))
	}
	seconds := math.Round(metres * 3.6 / t.Speed)
	q := &Quote{Metres: int64(metres), Minutes: int64(math.Ceil(seconds / 60)), Currency: t.Currency}
	q.Fare = max(t.Minimum, t.Base+share(t.PerKilometre, q.Metres, 1000)+share(t.PerMinute, int64(seconds), 60))
	return q, nil
}

// share returns price × amount ÷ unit, rounded to the nearest, half a unit up. It cannot overflow: of a valid tariff neither factor is
// greater than 10⁹.
func share(price, amount, unit int64) int64 { return (price*amount + unit/2) / unit }
