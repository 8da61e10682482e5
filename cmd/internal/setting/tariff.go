package setting

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/text/currency"

	"github.com/example/pillion/booking"
)

var _ kong.MapperValue = (*Tariff)(nil)

// Tariff holds the fares from a JSON file with all members of booking.Tariff, or the default tariff
// if no file is named.
type Tariff struct {
	Value booking.Tariff
	problem
}

// Decode accepts the name of a file and reads it.
func (t *Tariff) Decode(ctx *kong.DecodeContext) error {
	return t.decode(ctx, func(raw string) problem {
		if raw == "" {
			t.Value = booking.DefaultTariff()
			return ""
		}
		var err error
		if t.Value, err = readTariff(raw); err != nil {
			return problem("cannot be used: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return ""
	})
}

// readTariff reads a file strictly: a missing or unknown member is an error, so that no price is
// zero by accident.
func readTariff(name string) (booking.Tariff, error) {
	f, err := os.Open(name)
	if err != nil {
		return booking.Tariff{}, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	var members map[string]json.RawMessage
	d := json.NewDecoder(io.LimitReader(f, 64<<10))
	if err := d.Decode(&members); err != nil {
		return booking.Tariff{}, fmt.Errorf("%s is not a JSON object: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return booking.Tariff{}, fmt.Errorf("%s has text after its JSON object", name)
	}
	var t booking.Tariff
	var wrong []error
	for _, m := range []struct {
		name string
		to   any
	}{
		{"currency", &t.Currency}, {"base", &t.Base}, {"per_km", &t.PerKilometre}, {"per_minute", &t.PerMinute},
		{"minimum", &t.Minimum},
		{"speed_kmh", &t.Speed}, {"detour", &t.Detour}, {"longest_km", &t.Longest},
	} {
		value, there := members[m.name]
		delete(members, m.name)
		switch {
		case !there:
			wrong = append(wrong, fmt.Errorf("%s has no %q", name, m.name))
		case json.Unmarshal(value, m.to) != nil || string(value) == "null":
			wrong = append(wrong, fmt.Errorf("%s has %s for %q", name, value, m.name))
		}
	}
	for unknown := range members {
		wrong = append(wrong, fmt.Errorf("%s has the unknown member %q", name, unknown))
	}
	if wrong != nil {
		return booking.Tariff{}, errors.Join(wrong...)
	}
	if err := t.Valid(); err != nil {
		return booking.Tariff{}, fmt.Errorf("in %s %w", name, err)
	}
	if _, err := currency.ParseISO(t.Currency); err != nil {
		return booking.Tariff{}, fmt.Errorf("in %s the currency %q is not in ISO 4217", name, t.Currency)
	}
	return t, nil
}
