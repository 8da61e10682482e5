package embedded_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/trialca"
)

const patience = 30 * time.Second

// issue creates a CA with certificates for the servers and a service in dir, or renews them.
func issue(t *testing.T, dir string, renew bool) {
	t.Helper()
	_, err := trialca.Make(trialca.Config{Folder: func(string) string { return dir }, Renew: renew,
		Holders: []trialca.Holder{
			{Name: "nats", Hosts: []string{"127.0.0.1", "localhost"}, Peer: true},
			{Name: "usersvc", Hosts: []string{"127.0.0.1"}},
		}})
	if err != nil {
		t.Fatal(err)
	}
}

func pair(t *testing.T, dir string) *certfile.Pair {
	t.Helper()
	p, err := certfile.Load(certfile.Config{Cert: filepath.Join(dir, "nats.crt"), Key: filepath.Join(dir, "nats.key"),
		Every: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t *testing.T, c embedded.Config) *embedded.Server {
	t.Helper()
	c.Dir = t.TempDir()
	s, err := embedded.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.Timeout(patience), nats.NoReconnect()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// serial returns the serial number of the certificate that a server presented.
func serial(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("the server speaks %s", tls.VersionName(state.Version))
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// plain connects to a server without encryption, and returns what it sends after its greeting.
func plain(t *testing.T, addr string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	lines := bufio.NewReader(conn)
	if greeting, err := lines.ReadString('\n'); err != nil || !strings.Contains(greeting, `"tls_required":true`) {
		t.Fatalf("greeting %q, %v; want tls_required", greeting, err)
	}
	if _, err := io.WriteString(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		return err.Error()
	}
	said, err := io.ReadAll(lines)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the server neither answers nor closes the connection")
	}
	return string(said)
}

// The server accepts clients over sockets only with TLS 1.3, and this process without TLS. It
// presents a renewed certificate to new clients, and keeps existing connections.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issue(t, dir, false)
	s := begin(t, embedded.Config{Addr: "127.0.0.1:0", TLS: pair(t, dir).Server()})
	if !strings.HasPrefix(s.URL(), "tls://") {
		t.Errorf("URL() = %s, want tls://", s.URL())
	}
	ca := nats.RootCAs(filepath.Join(dir, "ca.crt"))
	early := dial(t, s.URL(), ca)
	first := serial(t, early)
	if err := dial(t, "", nats.InProcessServer(s.Provider())).FlushTimeout(patience); err != nil {
		t.Errorf("this process: %v", err)
	}

	for what, opt := range map[string]nats.Option{
		"a client with TLS 1.2": nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS12,
			InsecureSkipVerify: true}),
		"a client that distrusts the CA": nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13}),
	} {
		nc, err := nats.Connect(s.URL(), opt, nats.Timeout(patience), nats.NoReconnect())
		if err == nil {
			nc.Close()
			t.Errorf("accepted %s", what)
		} else if !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if said := plain(t, strings.TrimPrefix(s.URL(), "tls://")); strings.Contains(said, "PONG") {
		t.Errorf("a client without TLS is answered %q", said)
	}

	issue(t, dir, true)
	if serial(t, dial(t, s.URL(), ca)) == first {
		t.Error("the server presents the old certificate after a renewal")
	}
	if err := early.FlushTimeout(patience); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

// The server listens beyond loopback only with access control and TLS.
func TestBeyondLoopback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issue(t, dir, false)
	public, err := access.LoadOrCreate(filepath.Join(dir, "services"))
	if err != nil {
		t.Fatal(err)
	}
	closed := access.Conf(public, false)
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
		for what, c := range map[string]embedded.Config{
			"without TLS": {Addr: addr, Access: closed}, "open": {Addr: addr, TLS: pair(t, dir).Server()},
		} {
			c.Dir = t.TempDir()
			s, err := embedded.Start(c)
			if err == nil {
				_ = s.Stop()
			}
			if !errors.Is(err, embedded.ErrAddr) || !strings.Contains(err.Error(), "--nats-tls-cert") {
				t.Errorf("on %s %s: %v", addr, what, err)
			}
		}
	}
	s := begin(t, embedded.Config{Addr: "0.0.0.0:0", Access: closed, TLS: pair(t, dir).Server()})
	port, ok := strings.CutPrefix(s.URL(), "tls://0.0.0.0:")
	if !ok {
		t.Errorf("URL() = %s, want tls://0.0.0.0:", s.URL())
	}
	_, err = nats.Connect("tls://127.0.0.1:"+port, nats.RootCAs(filepath.Join(dir, "ca.crt")), nats.Timeout(patience))
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a client without a key: %v", err)
	}
}

// The cluster of package bustest has encrypted routes.
func TestClusterTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issue(t, dir, false)
	pool, err := certfile.Authorities(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	p := pair(t, dir)
	c := bustest.StartCluster(t, bustest.ClusterConfig{TLS: p.Server(), Routes: p.Peer(pool)})
	if !strings.HasPrefix(c.URL(0), "tls://") {
		t.Errorf("URL() = %s, want tls://", c.URL(0))
	}
	if err := dial(t, c.URL(1), nats.RootCAs(filepath.Join(dir, "ca.crt"))).FlushTimeout(patience); err != nil {
		t.Error(err)
	}
}
