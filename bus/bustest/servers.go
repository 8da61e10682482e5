package bustest

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// Running runs a task in the background until the end of the test, which fails if the task does.
func Running(t testing.TB, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Serve starts a server with the certificate in the folder certs, or without encryption if certs is
// empty. The caller must stop it.
func Serve(t *testing.T, addr, certs string) *embedded.Server {
	t.Helper()
	c := embedded.Config{Dir: t.TempDir(), Addr: addr}
	if certs != "" {
		pair, err := loadPair(certs)
		if err != nil {
			t.Fatal(err)
		}
		c.TLS = pair.Server()
	}
	s, err := embedded.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// StopServer stops a server, and fails the test if that fails.
func StopServer(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// ConnectTo returns a new connection, which the test's cleanup closes.
func ConnectTo(t *testing.T, c bus.Config) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseConn(t, conn) })
	return conn
}

// Limited returns a connection to a server that has limits, in the words of its configuration, such
// as "max_mem: 64MB, max_file: 8MB".
func Limited(t *testing.T, limits string) *bus.Conn {
	t.Helper()
	r := Away(t)
	r.Config.Access = "accounts { A { jetstream: { " + limits + " }, users: [ { user: a, password: a } ] } }\n" +
		"no_auth_user: a"
	r.Start(t)
	return ConnectTo(t, bus.Config{InProcess: r})
}

// A Restartable is a server that a test stops and starts again. Connections reach it without a
// socket.
type Restartable struct {
	Config embedded.Config
	Server atomic.Pointer[embedded.Server] // nil while it is stopped
}

// Away returns a server that has not been started yet. The test's cleanup stops it.
func Away(t testing.TB) *Restartable {
	t.Helper()
	r := &Restartable{Config: embedded.Config{Dir: t.TempDir()}}
	t.Cleanup(func() {
		if r.Server.Load() != nil {
			r.Stop(t)
		}
	})
	return r
}

// InProcessConn implements nats.InProcessConnProvider.
func (r *Restartable) InProcessConn() (net.Conn, error) {
	s := r.Server.Load()
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.Provider().InProcessConn()
}

// Start starts the server.
func (r *Restartable) Start(t testing.TB) {
	t.Helper()
	s, err := embedded.Start(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	r.Server.Store(s)
}

// Stop stops the server.
func (r *Restartable) Stop(t testing.TB) {
	t.Helper()
	if err := r.Server.Swap(nil).Stop(); err != nil {
		t.Errorf("stop server: %v", err)
	}
}

// FreeAddr returns an unused address on loopback.
func FreeAddr(t testing.TB) string {
	t.Helper()
	found, err := FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(found[0]))
}

// CloseConn closes a connection.
func CloseConn(t testing.TB, c *bus.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
	defer cancel()
	c.Close(ctx)
}
