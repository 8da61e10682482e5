package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
)

// A limited is a server behind a ConnLimiter. Addresses of 127.0.0.0/8 stand for networks.
type limited struct {
	addr     string
	registry *prometheus.Registry
}

func serveLimited(t *testing.T, l web.ConnLimits) limited {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Registerer = prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	limiter := web.NewConnLimiter(l)
	go func() { done <- web.DefaultLimits().Serve(ctx, limiter.Limit(ln), http.HandlerFunc(hello), nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return limited{ln.Addr().String(), l.Registerer.(*prometheus.Registry)}
}

// dial opens a connection from an address, and reports whether the server keeps it: it is asked
// something, and the answer leaves it open.
func (s limited) dial(t *testing.T, from string) (conn net.Conn, kept bool) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wait.Patience))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // it may be closed already
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the server neither answers nor closes the connection")
	}
	if err == nil {
		_ = res.Body.Close()
	}
	return conn, err == nil
}

func (s limited) refused(t *testing.T, network, total int) {
	t.Helper()
	want := fmt.Sprintf(`# HELP pillion_http_connections_refused_total HTTP connections closed at once, by the limit that they exceeded.
# TYPE pillion_http_connections_refused_total counter
pillion_http_connections_refused_total{limit="network"} %d
pillion_http_connections_refused_total{limit="total"} %d
`, network, total)
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(want),
		"pillion_http_connections_refused_total"); err != nil {
		t.Error(err)
	}
}

// One network has a number of connections, and closing one makes room for another. All networks
// together have a number too.
func TestConnectionsAreLimited(t *testing.T) {
	s := serveLimited(t, web.ConnLimits{PerNetwork: 3, Total: 5})
	var open []net.Conn
	for range 3 {
		conn, kept := s.dial(t, "127.0.1.1")
		if !kept {
			t.Fatal("a connection within the limit is closed")
		}
		open = append(open, conn)
	}
	if _, kept := s.dial(t, "127.0.1.1"); kept {
		t.Error("a network has more connections than it may have")
	}
	for range 2 {
		if _, kept := s.dial(t, "127.0.2.1"); !kept {
			t.Error("another network is limited by the first one's connections")
		}
	}
	if _, kept := s.dial(t, "127.0.3.1"); kept {
		t.Error("there are more connections than there may be")
	}
	s.refused(t, 1, 1)
	_ = open[0].Close()
	wait.Until(t, "a closed connection makes room", func() bool {
		_, kept := s.dial(t, "127.0.1.1")
		return kept
	})
}

// A proxy's connections are those of many clients, and count in the total only.
func TestConnectionsOfProxies(t *testing.T) {
	s := serveLimited(t, web.ConnLimits{
		PerNetwork: 1, Total: 4, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.1.0/24")},
	})
	for range 3 {
		if _, kept := s.dial(t, "127.0.1.1"); !kept {
			t.Error("a proxy is limited like a client")
		}
	}
	for i, want := range []bool{true, false} {
		if _, kept := s.dial(t, "127.0.2.1"); kept != want {
			t.Errorf("connection %d of a client is kept: %v", i, kept)
		}
	}
	if _, kept := s.dial(t, "127.0.1.1"); kept {
		t.Error("a proxy's connections do not count in the total")
	}
	s.refused(t, 0, 2)
}
