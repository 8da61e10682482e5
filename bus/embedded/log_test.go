package embedded_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// Clients that are refused get a line a second, which counts the others. A token that one of them
// sends in the wrong place is not in the log.
func TestRefusedClientsInTheLog(t *testing.T) {
	log := new(wait.Journal)
	began := time.Now()
	s := begin(t, embedded.Config{
		Addr: "127.0.0.1:0", Access: "accounts { A { users: [ { user: a, password: a } ] } }",
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	const raw = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1bGxhIn0.c2lnbmF0dXJl"
	wait.Until(t, "lines are left out, and counted", func() bool {
		for _, o := range []nats.Option{nats.UserInfo(raw, ""), nats.UserInfo("ulla", raw), nats.Token(raw),
			nats.Name(raw), nats.UserInfo(raw[:30], "")} {
			if nc, err := nats.Connect(s.URL(), o); err == nil {
				nc.Close()
				t.Fatal("a stranger has connected")
			}
		}
		return strings.Contains(log.String(), "unlogged=")
	})
	text := log.String()
	if strings.Contains(text, "eyJ") {
		t.Errorf("a token is in the log:\n%s", text)
	}
	if !strings.Contains(text, "(token)") {
		t.Errorf("the log does not say that there was a token:\n%s", text)
	}
	lines, most := strings.Count(text, "authentication error"), int(time.Since(began)/time.Second)+1
	if lines > most {
		t.Errorf("%d lines in %d seconds:\n%s", lines, most, text)
	}
}
