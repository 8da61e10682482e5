// Package bustest runs real, provisioned NATS servers for tests. Call [Run] for one server, or
// [RunCluster] for three. The cleanup of the test stops everything.
//
// Some bugs of replication never show on one server; [Sizes] and [Races] run a test on both.
// [Virtual] runs a test in virtual time.
package bustest

import (
	"crypto/tls"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/trialca"
	"github.com/example/pillion/internal/wait"
)

// An Env is a NATS system for one test.
type Env struct {
	Replicas int  // of every stream and bucket
	Virtual  bool // time is virtual, so a test may check durations

	Keys string // the folder with all service keys, if Setup.Closed
	CA   string // the file with the CA of the servers' certificates, if Setup.TLS

	plan   bus.Plan
	url    func(i int) string
	inside nats.InProcessConnProvider // if the server does not listen
	conns  atomic.Int32
}

// Run starts one server without access control.
func Run(t testing.TB) *Env {
	t.Helper()
	return RunWith(t, plan())
}

// RunWith is [Run] with a plan of its own.
func RunWith(t testing.TB, p bus.Plan) *Env {
	t.Helper()
	return Setup{}.start(t, p)
}

// plan returns the default plan.
func plan() bus.Plan { return bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 30} }

// RunClosed starts one server with access control; see package access. With watch, clients without
// credentials may subscribe to the demo feed. Connect with [Env.ConnectAs].
func RunClosed(t testing.TB, watch bool) *Env { return Start(t, Setup{Closed: true, Watch: watch}) }

// RunCluster starts three servers that replicate everything to each other.
func RunCluster(t testing.TB) *Env { return Start(t, Setup{Replicas: clusterSize}) }

// LongCluster starts a cluster according to s. In the short form it skips the test.
func LongCluster(t testing.TB, s Setup) *Env {
	t.Helper()
	if !wait.Long() {
		t.Skip("a cluster of three servers: make check runs this")
	}
	s.Replicas = clusterSize
	return Start(t, s)
}

// A Setup configures the servers of an Env. The zero value is one server without access control and
// encryption, which acknowledges messages before it syncs them to disk.
type Setup struct {
	Replicas   int  // 3 starts a cluster of three servers, and anything else one server
	Closed     bool // with access control
	Watch      bool // with Closed: clients without credentials may subscribe to the demo feed
	TLS        bool // for clients, and between the servers of a cluster
	SyncAlways bool // fsync before each acknowledgement
}

// Start starts servers according to s.
func Start(t testing.TB, s Setup) *Env {
	t.Helper()
	return s.start(t, plan())
}

// StartWith is [Start] with a plan of its own.
func StartWith(t testing.TB, s Setup, p bus.Plan) *Env {
	t.Helper()
	return s.start(t, p)
}

func (s Setup) start(t testing.TB, p bus.Plan) *Env {
	t.Helper()
	e := &Env{Replicas: 1, plan: p}
	var conf string
	if s.Closed {
		e.Keys = t.TempDir()
		conf = e.access(t, s.Watch)
	}
	var clients, routes *tls.Config
	if s.TLS {
		clients, routes = e.certify(t)
	}
	if s.Replicas == clusterSize {
		e.Replicas = clusterSize
		e.url = StartCluster(t, ClusterConfig{Access: conf, SyncAlways: s.SyncAlways, TLS: clients, Routes: routes}).URL
	} else {
		c, err := embedded.Start(embedded.Config{
			Dir: t.TempDir(), Addr: "127.0.0.1:0", Access: conf, SyncAlways: s.SyncAlways, TLS: clients,
		})
		if err != nil {
			t.Fatalf("start NATS: %v", err)
		}
		e.url = func(int) string { return c.URL() }
		t.Cleanup(func() {
			if err := c.Stop(); err != nil {
				t.Errorf("stop NATS: %v", err)
			}
		})
	}
	e.plan.Replicas = e.Replicas
	e.provision(t)
	return e
}

func (e *Env) access(t testing.TB, watch bool) string {
	t.Helper()
	public, err := access.LoadOrCreate(e.Keys)
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	return access.Conf(public, watch)
}

// certify creates certificates for the servers, and returns the TLS configurations for clients and
// routes.
func (e *Env) certify(t testing.TB) (clients, routes *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	if _, err := trialca.Make(trialca.Config{Folder: func(string) string { return dir }, Holders: []trialca.Holder{
		{Name: "nats", Hosts: []string{"127.0.0.1"}, Peer: true},
	}}); err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	e.CA = filepath.Join(dir, trialca.CACert)
	pair, err := loadPair(dir)
	if err != nil {
		t.Fatalf("read certificates: %v", err)
	}
	trusted, err := certfile.Authorities(e.CA)
	if err != nil {
		t.Fatalf("read certificates: %v", err)
	}
	return pair.Server(), pair.Peer(trusted)
}

// loadPair loads the certificate of the servers from a folder.
func loadPair(dir string) (*certfile.Pair, error) {
	return certfile.Load(certfile.Config{
		Cert: filepath.Join(dir, "nats.crt"), Key: filepath.Join(dir, "nats.key"),
	})
}

// Sizes runs test on one server without access control and, in the long form, on a cluster of
// three.
func Sizes(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	Setup{}.Sizes(t, test)
}

// Sizes runs test on one server according to s and, in the long form, on a cluster of three. It
// ignores s.Replicas.
func (s Setup) Sizes(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	s.sizes(t, wait.Long(), test)
}

// Races is [Sizes] with the cluster in the short form too. It is for the few tests of the ledger's
// central promises, because a cluster costs seconds of processor time.
func Races(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	Setup{}.sizes(t, true, test)
}

func (s Setup) sizes(t *testing.T, cluster bool, test func(t *testing.T, e *Env)) {
	t.Helper()
	s.Replicas = 1
	t.Run("one replica", func(t *testing.T) { test(t, Start(t, s)) })
	if cluster {
		s.Replicas = clusterSize
		t.Run("three replicas", func(t *testing.T) { test(t, Start(t, s)) })
	}
}

// Plan returns the plan by which e is provisioned.
func (e *Env) Plan() bus.Plan { return e.plan }

// provision creates the streams. It retries, because a new cluster may be slow to elect the leader
// of a stream, or believe that one of its servers is down.
func (e *Env) provision(t testing.TB) {
	t.Helper()
	connect := e.Connect
	if e.Keys != "" {
		connect = func(t testing.TB) *bus.Conn { return e.ConnectAs(t, access.Operator) }
	}
	conn := connect(t)
	wait.Until(t, "the streams exist", func() bool {
		err := bus.Provision(t.Context(), conn, e.Plan())
		if err != nil && e.Replicas == 1 && fault.KindOf(err) != fault.Unavailable {
			t.Fatalf("provision: %v", err)
		}
		if err != nil {
			t.Logf("provision: %v", err)
		}
		return err == nil
	})
}

// URL returns the URL of a server. In a cluster, each call returns that of the next one.
func (e *Env) URL() string { return e.url(int(e.conns.Add(1))) }

// Connect returns a new connection, which the test's cleanup closes. In a cluster, each call
// connects to the next server.
func (e *Env) Connect(t testing.TB) *bus.Conn {
	t.Helper()
	return e.ConnectWith(t, bus.Config{})
}

// ConnectAs is [Env.Connect] with the key of one of Pillion's own processes, if Setup.Closed.
func (e *Env) ConnectAs(t testing.TB, who string) *bus.Conn {
	t.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(e.Keys, who))
	if err != nil {
		t.Fatalf("key of %s: %v", who, err)
	}
	return e.ConnectWith(t, bus.Config{Key: key, Inbox: who})
}

// ConnectWith is [Env.Connect] with settings. It fills in the server and its CA.
func (e *Env) ConnectWith(t testing.TB, c bus.Config) *bus.Conn {
	t.Helper()
	if c.InProcess = e.inside; e.inside == nil {
		c.URL = e.URL()
	}
	c.CA = e.CA
	if c.Name == "" {
		c.Name = t.Name()
	}
	conn, err := bus.Connect(c)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { CloseConn(t, conn) })
	return conn
}
