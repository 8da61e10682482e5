// Package bustest runs real NATS servers for tests: one, or three as a cluster, provisioned and ready.
//
// Everything it starts is stopped by the test's cleanup. The worst faults of replication never show on one server, so a test of
// a race belongs on both: see [Sizes].
package bustest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"pillion/bus"
	"pillion/bus/access"
	"pillion/bus/embedded"
)

// An Env is a NATS that a test may do with as it likes.
type Env struct {
	Replicas int // of every stream and bucket

	Keys string // the folder with everybody's keys, where it is closed

	plan  bus.Plan
	url   func(i int) string
	conns atomic.Int32
}

// Run starts one server, provisioned, and open to whoever reaches it. It is stopped after the test.
func Run(t testing.TB) *Env {
	t.Helper()
	return RunWith(t, plan())
}

// RunWith is Run with other ages and sizes.
func RunWith(t testing.TB, p bus.Plan) *Env {
	t.Helper()
	return run(t, &Env{plan: p}, "")
}

// plan is the usual one.
func plan() bus.Plan { return bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 30} }

// RunClosed is Run with a server that knows who may do what, as package access has it. With watch anybody may watch. Connect with
// [Env.ConnectAs].
func RunClosed(t testing.TB, watch bool) *Env {
	t.Helper()
	e := &Env{Keys: t.TempDir(), plan: plan()}
	return run(t, e, e.access(t, watch))
}

// RunClosedCluster is RunCluster with servers that know who may do what.
func RunClosedCluster(t testing.TB, watch bool) *Env {
	t.Helper()
	e := &Env{Keys: t.TempDir(), plan: plan()}
	return runCluster(t, e, e.access(t, watch))
}

func (e *Env) access(t testing.TB, watch bool) string {
	t.Helper()
	public, err := access.LoadOrCreate(e.Keys)
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	return access.Conf(public, watch)
}

func run(t testing.TB, e *Env, access string) *Env {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0", Access: access})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop NATS: %v", err)
		}
	})
	e.Replicas, e.plan.Replicas, e.url = 1, 1, func(int) string { return s.URL() }
	e.provision(t)
	return e
}

// RunCluster starts three servers that replicate everything to each other, provisioned. They are stopped after the test.
func RunCluster(t testing.TB) *Env { return runCluster(t, &Env{plan: plan()}, "") }

func runCluster(t testing.TB, e *Env, access string) *Env {
	t.Helper()
	c, err := embedded.StartClosedCluster(t.TempDir(), 3, nil, access)
	if err != nil {
		t.Fatalf("start NATS cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stop NATS cluster: %v", err)
		}
	})
	e.Replicas, e.plan.Replicas, e.url = 3, 3, c.URL
	e.provision(t)
	return e
}

// Sizes runs test on one server and on three.
func Sizes(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	t.Run("one replica", func(t *testing.T) { test(t, Run(t)) })
	t.Run("three replicas", func(t *testing.T) { test(t, RunCluster(t)) })
}

// Plan is how an Env is provisioned.
func (e *Env) Plan() bus.Plan { return e.plan }

func (e *Env) provision(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn := e.Connect
	if e.Keys != "" {
		conn = func(t testing.TB) *bus.Conn { return e.ConnectAs(t, access.Operator) }
	}
	if err := bus.Provision(ctx, conn(t), e.Plan()); err != nil {
		t.Fatalf("provision: %v", err)
	}
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
	c.URL = e.URL()
	if c.Name == "" {
		c.Name = t.Name()
	}
	conn, err := bus.Connect(c)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Errorf("close connection: %v", err)
		}
	})
	return conn
}
