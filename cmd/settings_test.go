package cmd_test

import (
	"net/http"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/test/e2e/proctest"
)

// Every number and time span that a setting lets through works: at its least, at its most, and switched off.
func TestExtremeSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, bound string
		more        []string
	}{
		// The least age of a key depends on how long keys are kept.
		{"least", "min", []string{"--key-age=24h"}},
		{"most", "max", nil},
		{"off", "off", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			for _, group := range []any{
				setting.Ledger{}, setting.Keys{}, setting.Sessions{}, setting.Logins{}, setting.HTTP{}, setting.Rides{}, setting.Streams{},
				setting.Bookings{}, setting.Fleet{}, setting.Snapshots{},
			} {
				for f := range reflect.TypeOf(group).Fields() {
					value, ok := f.Tag.Lookup(c.bound)
					if c.bound == "off" {
						value = "0"
					}
					if ok {
						args = append(args, "--"+f.Tag.Get("name")+"="+value)
					}
				}
			}
			p := proctest.Pillion(t, t.TempDir(), append(args, c.more...)...)
			if status, words := p.Readiness(t); status != http.StatusOK {
				t.Errorf("with %s: %d %s", strings.Join(args, " "), status, words)
			}
			p.Signal(t, syscall.SIGTERM)
			if status := p.Wait(t); status != 0 {
				t.Errorf("with %s it ended with %d", strings.Join(args, " "), status)
			}
		})
	}
}
