package callout_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// Where no server lists its connections, revoked tokens may stay in use. The log says so at the
// level that operators see.
func TestServersThatListNothing(t *testing.T) {
	t.Parallel() // mostly waits
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	var log wait.Journal
	e.RunCalloutWith(t, &keyRing{set: auth.KeySet()}, func(c *callout.Config) {
		c.Conn = e.ConnectAs(t, access.Usersvc) // which may not ask for connections
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	wait.Until(t, "the log says that revoked tokens may still be in use", func() bool {
		return strings.Contains(log.String(), "no NATS server lists its connections")
	})
}
