package embedded_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/wait"
)

// nodes returns the three servers of deploy/nats/cluster.conf with the certificates in dir, not
// started, and the addresses of their routes.
func nodes(t *testing.T, dir string) (all []*server.Server, routes []string) {
	t.Helper()
	public, err := access.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := bustest.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range ports {
		routes = append(routes, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	var starting []*server.Options
	for i, route := range routes {
		conf, name := t.TempDir(), fmt.Sprintf("nats-%d", i+1)
		here := strings.NewReplacer(
			"$NODE", name, "/nats/keys", dir, "/data", filepath.Join(conf, "data"),
			"port: 4222", "listen: \"127.0.0.1:-1\"", "127.0.0.1:8222", "127.0.0.1:-1",
			"advertise: $NODE", "", "client_advertise: $NODE", "", "port: 6222", "listen: "+fmt.Sprintf("%q", route),
			"nats-1:6222", routes[0], "nats-2:6222", routes[1], "nats-3:6222", routes[2])
		for file, text := range map[string]string{
			"cluster.conf": read(t, "../../deploy/nats/cluster.conf"),
			"tls.conf":     read(t, "../../deploy/nats/tls.conf"),
			"access.conf":  read(t, "../../deploy/nats/access.conf"), "keys/keys.conf": public.Define(),
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
			t.Error("cluster.conf acknowledges messages before it syncs them to disk")
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

// The servers of deploy/nats/cluster.conf form a cluster, which only servers with a certificate of
// its CA can join. A reload makes them present new certificates, and keeps existing connections.
func TestClusterConf(t *testing.T) {
	t.Parallel()
	dir, stranger := t.TempDir(), t.TempDir()
	issue(t, dir, false)
	issue(t, stranger, false)
	all, routes := nodes(t, dir)
	for _, s := range all {
		s.Start()
	}
	wait.Until(t, "three servers agree", func() bool {
		hasLeader := false
		for _, s := range all {
			hasLeader = hasLeader || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all)
		}
		return hasLeader
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
		joined := strings.HasPrefix(greeting, "INFO {")
		if joined != c.joined || !joined && (err == nil || !strings.Contains(err.Error(), "remote error: tls: ")) {
			t.Errorf("%s: greeted with %.20q, %v", c.who, greeting, err)
		}
	}

	ca := nats.RootCAs(filepath.Join(dir, "ca.crt"))
	key := operator(t, dir)
	early := dial(t, all[0].ClientURL(), ca, key)
	first, linked := serial(t, early), links(t, all[0])
	issue(t, dir, true)
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) != first {
		t.Error("the server presents another certificate before the reload")
	}
	if err := all[0].Reload(); err != nil { // as on SIGHUP
		t.Fatal(err)
	}
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) == first {
		t.Error("the server presents the old certificate after the reload")
	}
	if err := early.FlushTimeout(patience); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	// A reload with a key that does not match is rejected, and the old pair stays.
	second := serial(t, dial(t, all[0].ClientURL(), ca, key))
	whole := read(t, filepath.Join(dir, "nats.key"))
	put(t, filepath.Join(dir, "nats.key"), read(t, filepath.Join(dir, "usersvc.key")))
	if err := all[0].Reload(); err == nil {
		t.Error("accepted a key that does not match the certificate")
	}
	if serial(t, dial(t, all[0].ClientURL(), ca, key)) != second {
		t.Error("presents another certificate after a rejected reload")
	}
	put(t, filepath.Join(dir, "nats.key"), whole)
	// A reload also adds a second CA, as during a change of CAs.
	put(t, filepath.Join(dir, "ca.crt"), read(t, filepath.Join(dir, "ca.crt"))+read(t,
		filepath.Join(stranger, "ca.crt")))
	if err := all[0].Reload(); err != nil {
		t.Fatal(err)
	}
	greeting, err := join(routes[0], &tls.Config{RootCAs: pool, Certificates: load(stranger, "nats")})
	if !strings.HasPrefix(greeting, "INFO {") {
		t.Errorf("a server of the second CA: %.20q, %v", greeting, err)
	}

	now := links(t, all[0])
	for id := range linked {
		if !now[id] {
			t.Error("the reload closed a route")
		}
	}
}

// join connects to a server like another server, and returns its greeting.
func join(addr string, c *tls.Config) (string, error) {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// in TLS 1.3 the rejection of a certificate arrives here
	return bufio.NewReader(conn).ReadString('\n')
}

// links returns the ids of the routes of a server.
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

// operator returns the option to connect with the operator's key in dir.
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
