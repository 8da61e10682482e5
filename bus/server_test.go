package bus_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"pillion/bus"
	"pillion/bus/embedded"
)

// A restartable is a server that a test takes away and brings back.
type restartable struct {
	config embedded.Config
	server *embedded.Server
}

func startAt(t testing.TB, addr string) *restartable {
	t.Helper()
	r := &restartable{config: embedded.Config{Dir: t.TempDir(), Addr: addr}}
	r.start(t)
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *restartable) start(t testing.TB) {
	t.Helper()
	s, err := embedded.Start(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.server = s
}

func (r *restartable) stop(t testing.TB) {
	t.Helper()
	if err := r.server.Stop(); err != nil {
		t.Errorf("stop server: %v", err)
	}
}

func (r *restartable) restart(t testing.TB) {
	t.Helper()
	r.stop(t)
	r.start(t)
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
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
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
