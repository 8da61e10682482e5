package booking_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// plain is a tariff that can be computed with in the head: 36 km/h are 10 metres a second.
func plain() booking.Tariff {
	return booking.Tariff{
		Currency:     "EUR",
		Base:         100,
		PerKilometre: 50,
		PerMinute:    12,
		Minimum:      180,
		Speed:        36,
		Detour:       1,
		Longest:      100,
	}
}

// north returns a trip of so many metres, along a meridian.
func north(metres float64) booking.Trip {
	const radius = 6371008.8 // R1 of the IUGG, in metres
	return booking.Trip{
		Pickup:  &booking.Place{Lat: 10, Lng: 20},
		Dropoff: &booking.Place{Lat: 10 + metres/radius*180/math.Pi, Lng: 20},
	}
}

func TestQuote(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*booking.Tariff)
		trip booking.Trip
		want booking.Quote
	}{
		{"by distance and time", nil, north(6000), booking.Quote{Metres: 6000, Minutes: 10, Fare: 100 + 300 + 120}},
		// 300.5 and 120.2
		{"a minute that has begun", nil, north(6010), booking.Quote{Metres: 6010, Minutes: 11, Fare: 100 + 301 + 120}},
		{"the least", nil, north(500), booking.Quote{Metres: 500, Minutes: 1, Fare: 180}},
		{"nowhere", nil, north(0), booking.Quote{Fare: 180}},
		{"by detours", func(t *booking.Tariff) { t.Detour = 1.5 }, north(4000), booking.Quote{Metres: 6000, Minutes: 10, Fare: 520}},
		{"slowly", func(t *booking.Tariff) { t.Speed = 18 }, north(6000), booking.Quote{Metres: 6000, Minutes: 20, Fare: 640}},
		{"for nothing", func(t *booking.Tariff) { *t = booking.Tariff{Currency: "EUR", Speed: 36, Detour: 1, Longest: 100} }, north(6000), booking.Quote{Metres: 6000, Minutes: 10}},
		{"as long as can be", nil, north(100_000), booking.Quote{Metres: 100_000, Minutes: 167, Fare: 100 + 5000 + 2000}},
		{"at every limit", func(t *booking.Tariff) {
			*t = booking.Tariff{Currency: "EUR", Base: 1e9, PerKilometre: 1e9, PerMinute: 1e9, Minimum: 1e9, Speed: 1,
				Detour: 5, Longest: 1000}
		}, north(200_000), booking.Quote{Metres: 1_000_000, Minutes: 60_000, Fare: 1e9 + 1000*1e9 + 60_000*1e9}},
		{"across the date line", nil, booking.Trip{Pickup: &booking.Place{Lat: 0, Lng: 179.99}, Dropoff: &booking.Place{Lat: 0, Lng: -179.99}},
			booking.Quote{Metres: 2224, Minutes: 4, Fare: 100 + 111 + 44}},
		{"from Bengaluru's palace to its airport", func(t *booking.Tariff) { *t = booking.DefaultTariff() },
			booking.Trip{Pickup: &booking.Place{Lat: 12.9988, Lng: 77.5921},
				Dropoff: &booking.Place{Lat: 13.1986, Lng: 77.7066}},
			booking.Quote{Metres: 33_076, Minutes: 91, Fare: 2000 + 26_461 + 4510, Currency: "INR"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tariff := plain()
			if test.edit != nil {
				test.edit(&tariff)
			}
			if test.want.Currency == "" {
				test.want.Currency = "EUR"
			}
			if err := tariff.Valid(); err != nil {
				t.Fatal(err)
			}
			got, err := tariff.Quote(test.trip)
			if err != nil || *got != test.want {
				t.Fatalf("quote %+v (%v), want %+v", got, err, test.want)
			}
			back, err := tariff.Quote(booking.Trip{Pickup: test.trip.Dropoff, Dropoff: test.trip.Pickup})
			if err != nil || *back != *got {
				t.Errorf("and back again %+v (%v), want the same", back, err)
			}
			// What a tariff gives can be stored.
			if _, err := booking.Request(owner, test.trip, got, deadline); err != nil {
				t.Errorf("it cannot be booked: %v", err)
			}
		})
	}
}

func TestQuoteRefuses(t *testing.T) {
	if q, err := plain().Quote(booking.Trip{}); q != nil || err != nil {
		t.Errorf("a trip without places: %v, %v, want nothing", q, err)
	}
	_, err := plain().Quote(booking.Trip{Pickup: &booking.Place{}})
	wants(t, err, booking.ErrInvalidTrip)
	_, err = plain().Quote(booking.Trip{Pickup: &booking.Place{Lat: 91}, Dropoff: &booking.Place{}})
	wants(t, err, booking.ErrInvalidPlace)
	_, err = plain().Quote(north(100_001))
	wants(t, err, booking.ErrTooFar)
	const sentence = "The trip is too long: it has 120.0 km, and raiders ride at most 100 km. Choose places that are nearer to each other."
	_, err = plain().Quote(north(120_000))
	if got := fault.From(err).Message; got != sentence {
		t.Errorf("says %q, want %q", got, sentence)
	}
}

func TestTariffValid(t *testing.T) {
	if err := errors.Join(plain().Valid(), booking.DefaultTariff().Valid()); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		edit func(*booking.Tariff)
		says string
	}{
		{func(t *booking.Tariff) { t.Currency = "" }, "currency"},
		{func(t *booking.Tariff) { t.Currency = "eur" }, "currency"},
		{func(t *booking.Tariff) { t.Currency = "EURO" }, "currency"},
		{func(t *booking.Tariff) { t.Base = -1 }, "base"},
		{func(t *booking.Tariff) { t.PerKilometre = 1e9 + 1 }, "per_km"},
		{func(t *booking.Tariff) { t.PerMinute = -1 }, "per_minute"},
		{func(t *booking.Tariff) { t.Minimum = math.MaxInt64 }, "minimum"},
		{func(t *booking.Tariff) { t.Speed = 0 }, "speed_kmh"},
		{func(t *booking.Tariff) { t.Speed = math.NaN() }, "speed_kmh"},
		{func(t *booking.Tariff) { t.Detour = 0.99 }, "detour"},
		{func(t *booking.Tariff) { t.Detour = math.Inf(1) }, "detour"},
		{func(t *booking.Tariff) { t.Longest = 0 }, "longest_km"},
	} {
		tariff := plain()
		test.edit(&tariff)
		if err := tariff.Valid(); err == nil || !strings.HasPrefix(err.Error(), test.says+" must be ") {
			t.Errorf("%+v: %v, want a word about %s", tariff, err, test.says)
		}
		if _, err := booking.NewDesk(new(nolog), booking.DeskOptions{Deadline: 1, Tariff: &tariff}); err == nil {
			t.Errorf("a desk works with %+v", tariff)
		}
	}
	tariff := booking.Tariff{}
	if err := tariff.Valid(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("an empty tariff: %v, want all that is wrong", err)
	}
}

// nolog is a log that is never asked.
type nolog struct{ booking.Log }
