package embedded_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/trialca"
	"github.com/example/pillion/internal/wait"
)

const patience = 30 * time.Second

// issue makes a CA with certificates for the servers and for a service in dir, or renews them.
func issue(t *testing.T, dir string, renew bool) {
	t.Helper()
	_, err := trialca.Make(trialca.Config{Folder: func(string) string { return dir }, Renew: renew, Holders: []trialca.Holder{
		{Name: "nats", Hosts: []string{"127.0.0.1", "localhost"}, Peer: true}, {Name: "usersvc", Hosts: []string{"127.0.0.1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func pair(t *testing.T, dir string) *certfile.Pair {
	t.Helper()
	p, err := certfile.Load(certfile.Config{Cert: filepath.Join(dir, "nats.crt"), Key: filepath.Join(dir, "nats.key"), Every: 1})
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

// serial is that of the certificate which a connection was shown.
func serial(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("it speaks %s", tls.VersionName(state.Version))
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// plain speaks to a server without encryption, and returns what it answers after its greeting.
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
		t.Fatalf("it greets with %q, %v", greeting, err)
	}
	if _, err := io.WriteString(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		return err.Error()
	}
	said, err := io.ReadAll(lines)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("it neither answers nor ends the connection")
	}
	return string(said)
}

// The server inside meets clients in TLS 1.3 and in nothing else, and this process without. A new certificate is shown to whoever connects next, and
// who is connected stays.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issue(t, dir, false)
	s := begin(t, embedded.Config{Addr: "127.0.0.1:0", TLS: pair(t, dir).Server()})
	if !strings.HasPrefix(s.URL(), "tls://") {
		t.Errorf("it is at %s", s.URL())
	}
	ca := nats.RootCAs(filepath.Join(dir, "ca.crt"))
	early := dial(t, s.URL(), ca)
	first := serial(t, early)
	if err := dial(t, "", nats.InProcessServer(s.Provider())).FlushTimeout(patience); err != nil {
		t.Errorf("this process: %v", err)
	}

	for what, opt := range map[string]nats.Option{
		"who speaks TLS 1.2":        nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}),
		"who does not trust the CA": nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13}),
	} {
		nc, err := nats.Connect(s.URL(), opt, nats.Timeout(patience), nats.NoReconnect())
		if err == nil {
			nc.Close()
			t.Errorf("%s is let in", what)
		} else if !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if said := plain(t, strings.TrimPrefix(s.URL(), "tls://")); strings.Contains(said, "PONG") {
		t.Errorf("who does not encrypt is answered %q", said)
	}

	issue(t, dir, true)
	if serial(t, dial(t, s.URL(), ca)) == first {
		t.Error("the certificate was replaced, and the old one is shown")
	}
	if err := early.FlushTimeout(patience); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

// Beyond this machine the server listens only closed and with TLS.
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
	if !strings.HasPrefix(s.URL(), "tls://127.0.0.1:") {
		t.Errorf("from this machine it is at %s", s.URL())
	}
	if _, err := nats.Connect(s.URL(), nats.RootCAs(filepath.Join(dir, "ca.crt")), nats.Timeout(patience)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("somebody without a key: %v", err)
	}
}

// A cluster in this process has encrypted routes.
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
		t.Errorf("it is at %s", c.URL(0))
	}
	if err := dial(t, c.URL(1), nats.RootCAs(filepath.Join(dir, "ca.crt"))).FlushTimeout(patience); err != nil {
		t.Error(err)
	}
}

// nodes starts the three servers of deploy/nats/cluster.conf on this machine, with the certificates in dir.
func nodes(t *testing.T, dir string) (all []*server.Server, routes []string) {
	t.Helper()
	public, err := access.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		routes = append(routes, l.Addr().String())
	}
	var starting []*server.Options
	for i, route := range routes {
		conf, name := t.TempDir(), fmt.Sprintf("nats-%d", i+1)
		here := strings.NewReplacer("$NODE", name, "/nats/keys", dir, "/data", filepath.Join(conf, "data"), "port: 4222", "listen: \"127.0.0.1:-1\"",
			"127.0.0.1:8222", "127.0.0.1:-1", "advertise: $NODE", "", "client_advertise: $NODE", "",
			"port: 6222", "listen: "+fmt.Sprintf("%q", route), "nats-1:6222", routes[0], "nats-2:6222", routes[1], "nats-3:6222", routes[2])
		for file, text := range map[string]string{
			"cluster.conf": read(t, "../../deploy/nats/cluster.conf"), "tls.conf": read(t, "../../deploy/nats/tls.conf"),
			"access.conf": read(t, "../../deploy/nats/access.conf"), "keys/keys.conf": public.Define(),
		} {
			path := filepath.Join(conf, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(here.Replace(text)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		opts, err := server.ProcessConfigFile(filepath.Join(conf, "cluster.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if !opts.SyncAlways {
			t.Error("cluster.conf acknowledges what is not on disk")
		}
		opts.NoSigs, opts.NoLog = true, true
		starting = append(starting, opts)
	}
	for _, opts := range starting {
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
	}
	return all, routes
}

// The servers of deploy/nats/cluster.conf find each other, and let nobody join without a certificate of a server of their CA. Told to reload they
// show new certificates, and who is connected stays.
func TestClusterConf(t *testing.T) {
	t.Parallel()
	dir, stranger := t.TempDir(), t.TempDir()
	issue(t, dir, false)
	issue(t, stranger, false)
	all, routes := nodes(t, dir)
	for _, s := range all {
		s.Start() // the listeners that held the ports are closed
	}
	wait.Until(t, "three servers agree", func() bool {
		led := false
		for _, s := range all {
			led = led || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all)
		}
		return led
	})

	pool, err := certfile.Authorities(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	load := func(dir, name string) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	for _, c := range []struct {
		who    string
		shows  []tls.Certificate
		most   uint16
		joined bool
	}{
		{"a server", load(dir, "nats"), 0, true},
		{"a server that speaks TLS 1.2", load(dir, "nats"), tls.VersionTLS12, false},
		{"nobody", nil, 0, false},
		{"a server of another CA", load(stranger, "nats"), 0, false},
		{"a service", load(dir, "usersvc"), 0, false},
	} {
		greeting, err := join(routes[0], &tls.Config{RootCAs: pool, Certificates: c.shows, MaxVersion: c.most})
		if joined := strings.HasPrefix(greeting, "INFO {"); joined != c.joined || !joined && (err == nil || !strings.Contains(err.Error(), "remote error: tls: ")) {
			t.Errorf("%s: greeted with %.20q, %v", c.who, greeting, err)
		}
	}

	ca := nats.RootCAs(filepath.Join(dir, "ca.crt"))
	key := operator(t, dir)
	early := dial(t, all[0].ClientURL(), ca, key)
	first, linked := serial(t, early), links(t, all[0])
	issue(t, dir, true)
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) != first {
		t.Error("the certificate changed before the server was told")
	}
	if err := all[0].Reload(); err != nil { // as SIGHUP makes it
		t.Fatal(err)
	}
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) == first {
		t.Error("reloaded, it shows the old certificate")
	}
	if err := early.FlushTimeout(patience); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	// Half a pair is refused, and the other one stays.
	second := serial(t, dial(t, all[0].ClientURL(), ca, key))
	whole := read(t, filepath.Join(dir, "nats.key"))
	put(t, filepath.Join(dir, "nats.key"), read(t, filepath.Join(dir, "usersvc.key")))
	if err := all[0].Reload(); err == nil {
		t.Error("it takes a key that is not the certificate's")
	}
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) != second {
		t.Error("after a reload that was refused it shows another certificate")
	}
	put(t, filepath.Join(dir, "nats.key"), whole)
	// A second CA is taken up likewise, for the time of its introduction.
	put(t, filepath.Join(dir, "ca.crt"), read(t, filepath.Join(dir, "ca.crt"))+read(t, filepath.Join(stranger, "ca.crt")))
	if err := all[0].Reload(); err != nil {
		t.Fatal(err)
	}
	if greeting, err := join(routes[0], &tls.Config{RootCAs: pool, Certificates: load(stranger, "nats")}); !strings.HasPrefix(greeting, "INFO {") {
		t.Errorf("a server of the second CA: %.20q, %v", greeting, err)
	}

	now := links(t, all[0])
	for id := range linked {
		if !now[id] {
			t.Error("a route from before is gone")
		}
	}
}

// join meets a server as another one would, and returns how it is greeted.
func join(addr string, c *tls.Config) (string, error) {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	return bufio.NewReader(conn).ReadString('\n') // in TLS 1.3 a refusal of the certificate comes here
}

// links are the routes that a server has.
func links(t *testing.T, s *server.Server) map[uint64]bool {
	t.Helper()
	z, err := s.Routez(nil)
	if err != nil || len(z.Routes) == 0 {
		t.Fatalf("no routes: %v", err)
	}
	all := map[uint64]bool{}
	for _, r := range z.Routes {
		all[r.Rid] = true
	}
	return all
}

// operator connects with the operator's key, which is in dir.
func operator(t *testing.T, dir string) nats.Option {
	t.Helper()
	opt, err := nats.NkeyOptionFromSeed(access.KeyFile(dir, access.Operator))
	if err != nil {
		t.Fatal(err)
	}
	return opt
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
