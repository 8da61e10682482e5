package booking

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Tariff estimates the length, duration and fare of trips. It knows no roads: the length of a
// trip is the distance as the crow flies times Detour. Prices are in minor units of the currency,
// such as cents or paise.
type Tariff struct {
	Currency     string  `json:"currency"`   // ISO 4217: three capital letters
	Base         int64   `json:"base"`       // price of any ride
	PerKilometre int64   `json:"per_km"`     //
	PerMinute    int64   `json:"per_minute"` //
	Minimum      int64   `json:"minimum"`    // lowest price of a ride
	Speed        float64 `json:"speed_kmh"`  // average, in km/h
	Detour       float64 `json:"detour"`     // ratio of road length to straight line, at least 1
	Longest      float64 `json:"longest_km"` // longest trip by road that is offered
}

// DefaultTariff returns the tariff for operators who set none.
func DefaultTariff() Tariff {
	return Tariff{
		Currency:     "INR",
		Base:         2000,
		PerKilometre: 800,
		PerMinute:    50,
		Minimum:      3000,
		Speed:        22,
		Detour:       1.3,
		Longest:      100,
	}
}

// Bounds of a Tariff. No fare within them overflows.
const (
	maxPrice   = 1_000_000_000 // minor units
	maxSpeed   = 200           // km/h
	maxDetour  = 5
	maxLongest = 1000 // km
)

// Valid returns all errors of the tariff, joined, or nil.
func (t Tariff) Valid() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !validCurrency(t.Currency) {
		say("currency must be an ISO 4217 code of three capital letters, such as EUR, not %q", t.Currency)
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
	}{{"speed_kmh", t.Speed, 1, maxSpeed}, {"detour", t.Detour, 1, maxDetour},
		{"longest_km", t.Longest, 0.1, maxLongest}} {
		if !(f.value >= f.least && f.value <= f.most) { // refuses NaN too
			say("%s must be from %v to %v, not %v", f.name, f.least, f.most, f.value)
		}
	}
	return errors.Join(wrong...)
}

// A Quote is the estimated length and duration of a trip, and its fare, in the wire's names.
type Quote struct {
	Metres   int64  `json:"distance_m"` // by road, estimated
	Minutes  int64  `json:"minutes"`    // estimated, rounded up
	Fare     int64  `json:"fare"`       // in minor units of the currency
	Currency string `json:"currency"`   // ISO 4217
}

// Bounds of a Quote, which no valid tariff reaches.
const (
	maxMetres  = 2 * maxLongest * 1000
	maxMinutes = 60 * 2 * maxLongest
	maxFare    = 1 << 53 // every JSON parser represents this exactly
)

// valid returns ErrInvalidQuote for figures that no valid tariff yields.
func (q Quote) valid() error {
	for _, f := range [...]struct{ value, most int64 }{{q.Metres, maxMetres}, {q.Minutes, maxMinutes},
		{q.Fare, maxFare}} {
		if f.value < 0 || f.value > f.most {
			return ErrInvalidQuote
		}
	}
	if !validCurrency(q.Currency) {
		return ErrInvalidQuote
	}
	return nil
}

func validCurrency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Quote returns the quote of a trip, or nil for a trip without places. It is deterministic. The
// tariff must be valid.
//
// Errors: ErrInvalidTrip, ErrInvalidPlace, and ErrTooFar for a trip longer than t.Longest.
func (t Tariff) Quote(trip Trip) (*Quote, error) {
	if err := trip.Valid(); err != nil {
		return nil, err
	}
	if trip.Pickup == nil {
		return nil, nil
	}
	metres := math.Round(trip.Pickup.Distance(*trip.Dropoff) * t.Detour)
	if metres > t.Longest*1000 {
		return nil, ErrTooFar.Sayingf(
			"The trip is too long: it has %.1f km, and raiders ride at most %g km. Choose places that are nearer to each other.",
			metres/1000,
			t.Longest)
	}
	seconds := math.Round(metres * 3.6 / t.Speed)
	q := &Quote{Metres: int64(metres), Minutes: int64(math.Ceil(seconds / 60)), Currency: t.Currency}
	q.Fare = max(t.Minimum, t.Base+share(t.PerKilometre, q.Metres, 1000)+share(t.PerMinute, int64(seconds), 60))
	return q, nil
}

// share returns price × amount ÷ unit, rounded to the nearest integer, halves up. It cannot
// overflow, because neither factor exceeds 10⁹ with a valid tariff.
func share(price, amount, unit int64) int64 { return (price*amount + unit/2) / unit }
