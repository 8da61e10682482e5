package setting_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
)

func TestTariff(t *testing.T) {
	const good = `{"currency":"EUR","base":150,"per_km":60,"per_minute":10,"minimum":300,"speed_kmh":25.5,"detour":1.4,"longest_km":40}`
	without := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	want := booking.Tariff{Currency: "EUR", Base: 150, PerKilometre: 60, PerMinute: 10, Minimum: 300, Speed: 25.5,
		Detour: 1.4, Longest: 40}
	for _, test := range []struct{ name, text, says string }{
		{"good", good, ""},
		{"not JSON", "base: 150", "is not a JSON object"},
		{"a list", "[]", "is not a JSON object"},
		{"empty", "", "is not a JSON object"},
		{"two", good + good, "has text after its JSON object"},
		{"a price is missing", without(`"base":150,`, ""), `has no "base"`},
		{"a price is null", without("150", "null"), `has null for "base"`},
		{"a price is text", without("150", `"150"`), `has "150" for "base"`},
		{"a price is broken", without("150", "1.5"), `has 1.5 for "base"`},
		{"a misspelt one", without("{", `{"tax":1,`), `has the unknown member "tax"`},
		{"a negative price", without("150", "-1"), "base must be from 0 to 1000000000"},
		{"no such currency", without("EUR", "XQQ"), `the currency "XQQ" is not in ISO 4217`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tariff.json")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _, err := parse(t, nil, "--tariff", file)
			switch {
			case test.says == "" && (err != nil || s.Tariff.Value != want):
				t.Errorf("read %+v (%v), want %+v", s.Tariff.Value, err, want)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) ||
				!strings.Contains(err.Error(), "--tariff (TARIFF_FILE) cannot be used: ")):
				t.Errorf("%v, want a word of --tariff that says %q", err, test.says)
			}
		})
	}
	if s, _, err := parse(t, nil); err != nil || s.Tariff.Value != booking.DefaultTariff() {
		t.Errorf("without a file %+v (%v), want the default", s.Tariff.Value, err)
	}
	if _, _, err := parse(t, nil, "--tariff", "/no/such/file"); err == nil ||
		!strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
}
