package bus_test

import (
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

func FuzzParseEventSubject(f *testing.F) {
	id := booking.NewID()
	for _, s := range []string{"1.requested", "2.accepted", "02.accepted", "0.accepted", "999999999.rated",
		"9999999999.rated", "1.", ".", "1.2.accepted", "+1.accepted"} {
		f.Add(bus.BookingPrefix + id + "." + s)
	}
	f.Add("ledger.booking..1.requested")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := bus.ParseEventSubject(s); ok && p.String() != s {
			t.Errorf("%q was taken for %q", s, p.String())
		}
	})
}
