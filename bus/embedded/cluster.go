package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats-server/v2/server"
)

// A Cluster is several NATS servers in this process that replicate to each other over loopback. It is for tests: a real cluster
// has a machine a server. Stop it.
type Cluster struct {
	servers []*server.Server
}

// ClusterConfig says what a cluster in this process is like. Dir and Size are required.
type ClusterConfig struct {
	Dir        string // each server keeps its streams in a folder of its own under it
	Size       int    // how many servers
	Log        *slog.Logger
	Access     string      // who may do what; see [Config]
	SyncAlways bool        // fsync before each acknowledgement; see [Config]
	TLS        *tls.Config // how clients are met; nil: unencrypted
	Routes     *tls.Config // how the servers meet each other; nil: unencrypted
}

// clusterPatience is long: to agree takes a second, and many times that on a machine with more to do than it can.
const clusterPatience = time.Minute

// StartCluster returns servers that have agreed on a leader.
func StartCluster(cc ClusterConfig) (*Cluster, error) {
	ports, err := FreePorts(cc.Size)
	if err != nil {
		return nil, fmt.Errorf("start NATS cluster: %w", err)
	}
	var routes []*url.URL
	for _, p := range ports {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p))})
	}
	c := &Cluster{}
	for i := range cc.Size {
		name := "n" + strconv.Itoa(i+1)
		opts, err := options(cc.Access)
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		opts.ServerName, opts.Host, opts.Port = name, "127.0.0.1", server.RANDOM_PORT
		opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory = true, filepath.Join(cc.Dir, name), maxMemory
		opts.SyncAlways = cc.SyncAlways
		opts.Cluster, opts.Routes = server.ClusterOpts{Name: "pillion", Host: "127.0.0.1", Port: ports[i]}, routes
		encrypt(opts, cc.TLS)
		if cc.Routes != nil {
			opts.Cluster.TLSConfig, opts.Cluster.TLSTimeout = cc.Routes, tlsPatience
		}
		s, err := server.NewServer(opts)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start NATS cluster: %w", err), c.Stop())
		}
		if cc.Log != nil {
			s.SetLoggerV2(logger{log: cc.Log.With("server", name)}, false, false, false)
		}
		s.Start()
		c.servers = append(c.servers, s)
	}
	// The server has no event for this, so it is asked.
	agreed := func() (struct{}, error) {
		if !c.agreed() {
			return struct{}{}, errors.New("no leader that knows all servers")
		}
		return struct{}{}, nil
	}
	if _, err := backoff.Retry(context.Background(), agreed, backoff.WithBackOff(backoff.NewConstantBackOff(5*time.Millisecond)),
		backoff.WithMaxElapsedTime(clusterPatience)); err != nil {
		return nil, errors.Join(fmt.Errorf("start NATS cluster: %w", err), c.Stop())
	}
	return c, nil
}

// Ports from which FreePorts takes: below those that systems give to outgoing connections (RFC 6335 section 6 leaves 49152 and more to
// that, Linux takes 32768 and more), because between here and the server's start such a connection may be made.
const firstPort, ports = 12000, 20000

// FreePorts returns n ports of loopback that nobody listens on, for tests of what must know its port before it starts.
func FreePorts(n int) ([]int, error) {
	var found []int
	var last error
	for range 100 * n {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(ports)))) //nolint:gosec // no secret
		if err != nil {
			last = err
			continue
		}
		defer l.Close() //nolint:errcheck // it has served its purpose; all are held until all are known
		if found = append(found, l.Addr().(*net.TCPAddr).Port); len(found) == n {
			return found, nil
		}
	}
	return nil, last
}

// agreed reports whether there is a leader, every server follows it, and it has heard from all of them what room they have: before
// that it places no stream on them.
func (c *Cluster) agreed() bool {
	led := false
	for _, s := range c.servers {
		if !s.JetStreamIsCurrent() {
			return false
		}
		led = led || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.servers)
	}
	return led
}

// URL returns where server i listens; i may be any number, and goes round.
func (c *Cluster) URL(i int) string { return c.servers[i%len(c.servers)].ClientURL() }

// Stop ends all servers and returns when their streams are closed. Close connections first.
func (c *Cluster) Stop() error {
	for _, s := range c.servers {
		s.Shutdown()
	}
	for _, s := range c.servers {
		s.WaitForShutdown()
	}
	return nil
}
