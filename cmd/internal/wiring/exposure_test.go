package wiring_test

import (
	"net"
	"strings"
	"testing"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/wait"
)

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// Accounts with a known password and profiles are refused where other machines can reach them,
// unless that is allowed. What is right behind a gateway is warned of once.
func TestExposure(t *testing.T) {
	here, anywhere := listen(t, "127.0.0.1:0"), listen(t, "0.0.0.0:0")
	on := setting.Switch{On: true}
	for _, c := range []struct {
		name              string
		exposure          wiring.Exposure
		refused, warnings string
	}{
		{"all on loopback", wiring.Exposure{Profile: setting.Profile{PProf: on}, Demo: true,
			Clients: []net.Listener{here}, Ops: here}, "", ""},
		{"a demo", wiring.Exposure{Demo: true, Clients: []net.Listener{here, anywhere}, Ops: here}, "--demo", ""},
		{"profiles", wiring.Exposure{Profile: setting.Profile{PProf: on}, Clients: []net.Listener{anywhere},
			Ops: anywhere}, "--pprof", ""},
		{"both", wiring.Exposure{Profile: setting.Profile{PProf: on}, Demo: true, Clients: []net.Listener{anywhere},
			Ops: anywhere}, "--demo --pprof", ""},
		{"both allowed", wiring.Exposure{Profile: setting.Profile{PProf: on, Insecure: on}, Demo: true,
			Clients: []net.Listener{anywhere, anywhere}, Ops: anywhere}, "", "HTTP ops"},
		{"demo and profiles elsewhere", wiring.Exposure{Clients: []net.Listener{anywhere}, Ops: here}, "", "HTTP"},
		{"with TLS", wiring.Exposure{Clients: []net.Listener{anywhere}, Encrypted: true, Ops: anywhere}, "", "ops"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var journal wait.Journal
			said := ""
			if err := c.exposure.Check(journal.Logger()); err != nil {
				said = err.Error()
			}
			for text, want := range map[string]bool{
				"--demo (PILLION_DEMO)":             strings.Contains(c.refused, "--demo"),
				"--pprof (PILLION_PPROF)":           strings.Contains(c.refused, "--pprof"),
				"allow it with --insecure (PILLION": c.refused != "",
			} {
				if strings.Contains(said, text) != want {
					t.Errorf("refused with %q: has %q, want %v", said, text, want)
				}
			}
			for text, want := range map[string]bool{
				"HTTP is not encrypted": strings.Contains(c.warnings, "HTTP"),
				"the ops address":       strings.Contains(c.warnings, "ops"),
			} {
				if n := strings.Count(journal.String(), text); n > 1 || (n == 1) != want {
					t.Errorf("warned %d times of %q, want %v: %s", n, text, want, journal.String())
				}
			}
		})
	}
}
