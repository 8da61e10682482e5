package commands

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestCity starts a demonstration with a city, waits for its riders, and stops it as Ctrl-C does. A
// city without a demonstration is refused.
func TestCity(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir(), "--demo", "--city")
	wait.Until(t, "riders come online", func() bool {
		_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
		return regexp.MustCompile(`pillion_riders\{state="online"\} [1-9]`).MatchString(metrics)
	})
	p.Signal(t, os.Interrupt)
	if status := p.Wait(t); status != 0 {
		t.Errorf("stopped with status %d\n%s", status, p.Tail(10))
	}

	status, _, stderr := proctest.Finish(t, "pillion", "--city", "--data="+t.TempDir())
	if status != 2 || !strings.Contains(stderr, "needs --demo") {
		t.Errorf("a city without a demonstration: status %d, want 2: %s", status, stderr)
	}
}
