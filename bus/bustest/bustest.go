// Package bustest runs real NATS servers for tests: one, or three as a cluster, provisioned and ready.
//
// Everything it starts is stopped by the test's cleanup. The worst faults of replication never show on one server: see [Sizes]
// and [Races]. [Virtual] runs a test in virtual time, in place of real waits.
package bustest

import (
	"context"
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

// An Env is a NATS that a test may do with as it likes.
type Env struct {
	Replicas int  // of every stream and bucket
	Virtual  bool // time passes as soon as everybody waits for it: here a test may judge durations

	Keys string // the folder with everybody's keys, where it is closed
	CA   string // the file with the CA of the servers' certificates, where they encrypt

	plan   bus.Plan
	url    func(i int) string
	inside nats.InProcessConnProvider // where the server does not listen
	conns  atomic.Int32
}

// Run starts one server, provisioned, and open to whoever reaches it. It is stopped after the test.
func Run(t testing.TB) *Env {
	t.Helper()
	return RunWith(t, plan())
}

// RunWith is Run with other ages and sizes.
func RunWith(t testing.TB, p bus.Plan) *Env {
	t.Helper()
	return Setup{}.start(t, p)
}

// plan is the usual one.
func plan() bus.Plan { return bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 30} }

// RunClosed is Run with a server that knows who may do what, as package access has it. With watch anybody may watch. Connect with
// [Env.ConnectAs].
func RunClosed(t testing.TB, watch bool) *Env { return Start(t, Setup{Closed: true, Watch: watch}) }

// RunCluster starts three servers that replicate everything to each other, provisioned. They are stopped after the test.
func RunCluster(t testing.TB) *Env { return Start(t, Setup{Replicas: clusterSize}) }

// LongCluster starts a cluster that is like s. In the short form it skips the test.
func LongCluster(t testing.TB, s Setup) *Env {
	t.Helper()
	if !wait.Long() {
		t.Skip("a cluster of three servers: make check runs this")
	}
	s.Replicas = clusterSize
	return Start(t, s)
}

// A Setup is what servers of an Env are like. The zero value is one open server without encryption that writes to disk some time after it has
// acknowledged.
type Setup struct {
	Replicas   int // 3 is a cluster of three servers; else it is one server
	Closed     bool
	Watch      bool // where it is closed: anybody may watch
	TLS        bool // for clients, and between the servers of a cluster
	SyncAlways bool
}

// Start starts servers, provisioned. They are stopped after the test.
func Start(t testing.TB, s Setup) *Env {
	t.Helper()
	return s.start(t, plan())
}

// StartWith is Start with other ages and sizes.
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

// certify makes certificates for the servers, and says how they meet clients and each other.
func (e *Env) certify(t testing.TB) (clients, routes *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	if _, err := trialca.Make(trialca.Config{Folder: func(string) string { return dir }, Holders: []trialca.Holder{
		{Name: "nats", Hosts: []string{"127.0.0.1"}, Peer: true},
	}}); err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	e.CA = filepath.Join(dir, trialca.CACert)
	pair, err := certfile.Load(certfile.Config{Cert: filepath.Join(dir, "nats.crt"), Key: filepath.Join(dir, "nats.key")})
	if err != nil {
		t.Fatalf("read certificates: %v", err)
	}
	trusted, err := certfile.Authorities(e.CA)
	if err != nil {
		t.Fatalf("read certificates: %v", err)
	}
	return pair.Server(), pair.Peer(trusted)
}

// Sizes runs test on one open server and, in the long form, on a cluster of three.
func Sizes(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	Setup{}.Sizes(t, test)
}

// Sizes runs test on one server that is like s and, in the long form, on a cluster of three. Replicas is not looked at.
func (s Setup) Sizes(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	s.sizes(t, wait.Long(), test)
}

// Races is [Sizes] with the cluster in the short form too. It is for the few tests that hold the ledger's promises
// together, because a cluster costs seconds of processor time.
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

// Plan is how an Env is provisioned.
func (e *Env) Plan() bus.Plan { return e.plan }

// provision makes the streams. A cluster that has just come together may take its time to elect the leader of one, or think that
// one of its servers is away, so it is tried again.
func (e *Env) provision(t testing.TB) {
	t.Helper()
	connect := e.Connect
	if e.Keys != "" {
		connect = func(t testing.TB) *bus.Conn { return e.ConnectAs(t, access.Operator) }
	}
	conn := connect(t)
	wait.Until(t, "the streams are there", func() bool {
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

// URL returns the address of a server of the Env: of another one at each call, in a cluster.
func (e *Env) URL() string { return e.url(int(e.conns.Add(1))) }

// Connect returns a connection of its own, to another server at each call in a cluster. It is closed after the test.
func (e *Env) Connect(t testing.TB) *bus.Conn {
	t.Helper()
	return e.ConnectWith(t, bus.Config{})
}

// ConnectAs returns a connection as one of our own processes, to a closed Env.
func (e *Env) ConnectAs(t testing.TB, who string) *bus.Conn {
	t.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(e.Keys, who))
	if err != nil {
		t.Fatalf("key of %s: %v", who, err)
	}
	return e.ConnectWith(t, bus.Config{Key: key, Inbox: who})
}

// ConnectWith is Connect with settings; where to connect is filled in.
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
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Errorf("close connection: %v", err)
		}
	})
	return conn
}
