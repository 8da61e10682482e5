package bustest

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/wait"
)

// Running runs a task until the test ends.
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

// LogLines collects what concurrent loggers write.
type LogLines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *LogLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what was written.
func (l *LogLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Serve starts a server with the certificate in a folder, or an unencrypted one where certs is
// empty.
func Serve(t *testing.T, addr, certs string) *embedded.Server {
	t.Helper()
	c := embedded.Config{Dir: t.TempDir(), Addr: addr}
	if certs != "" {
		pair, err := certfile.Load(certfile.Config{Cert: filepath.Join(certs, "nats.crt"), Key: filepath.Join(certs, "nats.key")})
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

// StopServer stops a server.
func StopServer(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// ConnectTo connects, and closes the connection after the test.
func ConnectTo(t *testing.T, c bus.Config) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// A Restartable is a server that a test stops and starts. Connections reach it within the process.
type Restartable struct {
	Config embedded.Config
	Server atomic.Pointer[embedded.Server]
}

// Away returns a server that is not started yet. It is stopped after the test.
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

// FreeAddr returns an address on which nothing listens.
func FreeAddr(t testing.TB) string {
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

// CloseConn closes a connection.
func CloseConn(t testing.TB, c *bus.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("close connection: %v", err)
	}
}
