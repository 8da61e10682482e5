package bus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// A restartable is a server that a test takes away and brings back. Connections reach it within the process, whichever server it
// is at the moment.
type restartable struct {
	config embedded.Config
	server atomic.Pointer[embedded.Server]
}

// away returns a server that was not started yet, and that is stopped after the test.
func away(t testing.TB) *restartable {
	t.Helper()
	r := &restartable{config: embedded.Config{Dir: t.TempDir()}}
	t.Cleanup(func() {
		if r.server.Load() != nil {
			r.stop(t)
		}
	})
	return r
}

// InProcessConn implements nats.InProcessConnProvider.
func (r *restartable) InProcessConn() (net.Conn, error) {
	s := r.server.Load()
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.Provider().InProcessConn()
}

func (r *restartable) start(t testing.TB) {
	t.Helper()
	s, err := embedded.Start(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.server.Store(s)
}

func (r *restartable) stop(t testing.TB) {
	t.Helper()
	if err := r.server.Swap(nil).Stop(); err != nil {
		t.Errorf("stop server: %v", err)
	}
}

// freeAddr returns an address that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func closeConn(t testing.TB, c *bus.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("close connection: %v", err)
	}
}

func writeFile(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
}
