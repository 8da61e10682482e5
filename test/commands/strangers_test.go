package commands

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestStrangersCauseNoErrors does what anyone can do wrong. The log warns, and has no error:
// operators are told to look into each of those.
func TestStrangersCauseNoErrors(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir(), "--demo")
	logged := func(text string, again func()) {
		t.Helper()
		wait.Until(t, "the log says "+text, func() bool {
			again() // strangers get a line a second, and the rest are counted
			return strings.Contains(p.Log.String(), text)
		})
	}

	user, err := nats.Connect(p.At["nats"], nats.Token(login(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	logged("Subscription Violation", func() {
		if _, err := user.SubscribeSync("ledger.>"); err != nil {
			t.Fatal(err)
		}
	})
	logged("Publish Violation", func() {
		if err := user.Publish("ledger.aaaaaaaaaaaaaaaaaaaaaaaaaa.1.requested", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	})
	logged("authentication error", func() {
		if nc, err := nats.Connect(p.At["nats"], nats.Token("no.token.here")); err == nil {
			nc.Close()
			t.Error("a client without a valid token can connect")
		}
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.At["nats"], "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn) // until the server has had enough
	for _, bad := range []string{"{", `{"email":1}`} {
		if status, words := proctest.Call(t, http.MethodPost, p.At["authsvc"]+"/login", asJSON,
			bad); status < 400 || status > 499 {
			t.Errorf("login with %.20s: %d %s", bad, status, words)
		}
	}
	// The server may close the connection before it has taken such a body, and the answer be lost.
	logged("body_too_large", func() {
		if resp, err := http.Post(p.At["authsvc"]+"/login", "application/json",
			strings.NewReader(strings.Repeat("x", 100<<10))); err == nil {
			_ = resp.Body.Close()
		}
	})
	if log := p.Log.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("strangers have caused errors:\n%s", log)
	}
}
