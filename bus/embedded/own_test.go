package embedded_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// own returns a connection as this process has it.
func own(t *testing.T, s *embedded.Server, o ...nats.Option) *nats.Conn {
	t.Helper()
	return dial(t, "", append(o, nats.InProcessServer(s))...)
}

// Strangers who have taken every place keep none of our own connections out, as they could after a
// restart, and have no place fewer because of those.
func TestOwnConnectionsHavePlaces(t *testing.T) {
	const places, services = 4, 6
	s := begin(t, embedded.Config{Addr: "127.0.0.1:0", MaxConnections: places})
	taken := 0
	var refused error
	for refused == nil {
		var nc *nats.Conn
		if nc, refused = nats.Connect(s.URL(), nats.NoReconnect()); refused == nil {
			t.Cleanup(nc.Close)
			taken++
		}
	}
	if taken < places {
		t.Errorf("%d strangers have a place, want at least %d", taken, places)
	}
	for range services {
		nc := own(t, s)
		if err := nc.FlushTimeout(wait.Patience); err != nil {
			t.Fatalf("a connection of our own: %v", err)
		}
	}
}

// While strangers fill the log, what one of our own connections is refused is written all the same.
func TestOwnRefusalsAreLogged(t *testing.T) {
	log := new(wait.Journal)
	s := begin(t, embedded.Config{
		Addr: "127.0.0.1:0", Log: log.Logger(),
		Access: `accounts { A { users: [ { user: a, password: a, permissions: { publish: "ok" } } ] } }`,
	})
	nc := own(t, s, nats.UserInfo("a", "a"))
	for i := range 5 {
		if nc, err := nats.Connect(s.URL(), nats.UserInfo("b", "b")); err == nil {
			nc.Close()
			t.Fatal("a stranger has connected")
		}
		if err := nc.Publish("forbidden."+strconv.Itoa(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	wait.Until(t, "each refusal is in the log", func() bool {
		for i := range 5 {
			if !strings.Contains(log.String(), "forbidden."+strconv.Itoa(i)) {
				return false
			}
		}
		return true
	})
}
