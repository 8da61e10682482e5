package bustest

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/example/pillion/internal/wait"
)

const (
	clusterSize = 3
	maxMemory   = 64 << 20 // for the state of consumers; streams are on disk
	// tlsPatience is how long a TLS handshake may take, in seconds. NATS allows two, which is too
	// short on a busy machine.
	tlsPatience = 10
)

// A Cluster is three NATS servers in this process that replicate to each other over loopback. Start
// one with [StartCluster], or provisioned with [RunCluster].
type Cluster struct {
	servers []*server.Server
}

// ClusterConfig says what a cluster is like. The zero value is open and unencrypted.
type ClusterConfig struct {
	Access     string      // accounts and permissions; see [embedded.Config]
	SyncAlways bool        // fsync before each acknowledgement
	TLS        *tls.Config // for clients; nil: unencrypted
	Routes     *tls.Config // between the servers; nil: unencrypted
}

// StartCluster returns servers that have agreed on a leader. They are stopped after the test; close
// connections first.
func StartCluster(t testing.TB, cc ClusterConfig) *Cluster {
	t.Helper()
	ports, err := FreePorts(clusterSize)
	if err != nil {
		t.Fatalf("start NATS cluster: %v", err)
	}
	var routes []*url.URL
	for _, p := range ports {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p))})
	}
	c := &Cluster{}
	dir := t.TempDir()
	t.Cleanup(c.stop)
	for i, port := range ports {
		name := "n" + strconv.Itoa(i+1)
		opts := &server.Options{}
		if cc.Access != "" {
			if err := opts.ProcessConfigString(cc.Access); err != nil {
				t.Fatalf("start NATS cluster: %v", err)
			}
		}
		opts.NoSigs, opts.NoLog = true, true
		opts.ServerName, opts.Host, opts.Port = name, "127.0.0.1", server.RANDOM_PORT
		opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory = true, filepath.Join(dir, name), maxMemory
		opts.SyncAlways = cc.SyncAlways
		opts.Cluster, opts.Routes = server.ClusterOpts{Name: "pillion", Host: "127.0.0.1", Port: port}, routes
		if cc.TLS != nil {
			opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, cc.TLS, tlsPatience
		}
		if cc.Routes != nil {
			opts.Cluster.TLSConfig, opts.Cluster.TLSTimeout = cc.Routes, tlsPatience
		}
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatalf("start NATS cluster: %v", err)
		}
		s.Start()
		c.servers = append(c.servers, s)
	}
	// The server has no event for this, so the test asks. Agreement takes a second, and many times
	// that on an overloaded machine.
	wait.Until(t, "the servers of a cluster agree on a leader", c.agreed)
	return c
}

// Ports that are given to servers are below those that operating systems assign to outgoing
// connections (49152 and above by RFC 6335 section 6, 32768 and above on Linux): such a connection
// could take the port before the server does.
const firstPort, ports = 12000, 20000

// claims holds a UDP socket on each port that this process has given away. The tests of another
// package, which is another process, get other ports as long as it lives.
var claims struct {
	sync.Mutex
	all []net.PacketConn
}

// FreePorts returns n unused ports of loopback, for tests of servers that must know their port
// before they start. No other call returns them, in whatever process, until this process ends.
func FreePorts(n int) ([]int, error) {
	claims.Lock()
	defer claims.Unlock()
	var found []int
	var last error
	for range 100 * n {
		port := firstPort + rand.IntN(ports)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		claim, err := net.ListenPacket("udp", addr)
		if err != nil {
			last = err
			continue
		}
		claims.all = append(claims.all, claim)
		l, err := net.Listen("tcp", addr)
		if err != nil { // a program that knows nothing of claims has it
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		if found = append(found, port); len(found) == n {
			return found, nil
		}
	}
	return nil, last
}

// agreed reports whether there is a leader, every server follows it, and it knows the free space of
// each. A leader that does not know it places no stream.
func (c *Cluster) agreed() bool {
	hasLeader := false
	for _, s := range c.servers {
		if !s.JetStreamIsCurrent() {
			return false
		}
		hasLeader = hasLeader || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.servers)
	}
	return hasLeader
}

// URL returns the address of server i modulo the size of the cluster.
func (c *Cluster) URL(i int) string { return c.servers[i%len(c.servers)].ClientURL() }

// stop ends all servers, and returns when their streams are closed.
func (c *Cluster) stop() {
	for _, s := range c.servers {
		s.Shutdown()
	}
	for _, s := range c.servers {
		s.WaitForShutdown()
	}
}
