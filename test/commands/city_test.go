package commands

import (
	"bufio"
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
	ridersOnline(t, p)
	p.Stop(t)

	status, _, stderr := proctest.Finish(t, "pillion", "--city", "--data="+t.TempDir())
	if status != 2 || !strings.Contains(stderr, "needs --demo") {
		t.Errorf("a city without a demonstration: status %d, want 2: %s", status, stderr)
	}
}

// TestCityButton starts the city of a running demonstration, stops it, starts it again at once, and
// stops the process meanwhile. Before the first start nobody is there. No log line tells of what
// the simulated people request.
func TestCityButton(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir(), "--demo")
	v, other := newVisit(t, p.At["all"], p.At["all"], nil), newVisit(t, p.At["all"], p.At["all"], nil)
	v.login("john@example.com", "user")
	lines := bufio.NewScanner(v.fetch("GET", "/board/events", "").body)
	if first := told(t, lines, "city", ""); !strings.Contains(first, `"city":{"running":false}`) ||
		!strings.Contains(first, `"online":0`) {
		t.Errorf("at first the board tells %s", first)
	}
	other.do(401, "POST", "/board/city/start", "{}")
	turn := func(verb string, want bool) {
		t.Helper()
		if got := v.do(200, "POST", "/board/city/"+verb, "{}"); got["running"] != want {
			t.Errorf("%s: %v", verb, got)
		}
	}
	turn("start", true)
	told(t, lines, "city", `"city":{"running":true}`)
	ridersOnline(t, p)
	turn("stop", false)
	turn("stop", false)
	told(t, lines, "city", `"city":{"running":false}`)
	told(t, lines, "city", `"online":0`)
	turn("start", true)
	ridersOnline(t, p)
	if tail := p.Tail(10_000); strings.Contains(tail, "/position") {
		t.Errorf("the log has the requests of the city:\n%s", tail)
	}
	p.Stop(t)
}

func ridersOnline(t *testing.T, p *proctest.Program) {
	t.Helper()
	wait.Until(t, "riders come online", func() bool {
		_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
		return regexp.MustCompile(`pillion_riders\{state="online"\} [1-9]`).MatchString(metrics)
	})
}
