package callout_test

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// Refused clients get a line a second in the log of authsvc, which counts the others.
func TestRefusedClientsInTheLog(t *testing.T) {
	e, auth, log := bustest.RunClosed(t, false), tokentest.New(t), new(wait.Journal)
	began := time.Now()
	e.RunCalloutWith(t, &keyRing{set: auth.KeySet()}, func(c *callout.Config) {
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	counted := regexp.MustCompile(`unlogged=[1-9]`)
	wait.Until(t, "lines are left out, and counted", func() bool {
		if nc, err := nats.Connect(e.URL(), nats.Token("forged")); err == nil {
			nc.Close()
			t.Fatal("a forged token is accepted")
		}
		return counted.MatchString(log.String())
	})
	lines, most := strings.Count(log.String(), "rejected a NATS client"), int(time.Since(began)/time.Second)+1
	if lines > most {
		t.Errorf("%d lines in %d seconds", lines, most)
	}
}
