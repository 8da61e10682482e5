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
	"pillion/bus/embedded"
)

// An Env is a NATS that a test may do with as it likes.
type Env struct {
	Replicas int // of every stream and bucket

	plan  bus.Plan
	url   func(i int) string
	conns atomic.Int32
}

// Run starts one server, provisioned. It is stopped after the test.
func Run(t testing.TB) *Env {
	t.Helper()
	return RunWith(t, bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 30})
}

// RunWith is Run with other ages and sizes.
func RunWith(t testing.TB, p bus.Plan) *Env {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop NATS: %v", err)
		}
	})
	p.Replicas = 1
	e := &Env{Replicas: 1, plan: p, url: func(int) string { return s.URL() }}
	e.provision(t)
	return e
}

// RunCluster starts three servers that replicate everything to each other, provisioned. They are stopped after the test.
func RunCluster(t testing.TB) *Env {
	t.Helper()
	c, err := embedded.StartCluster(t.TempDir(), 3, nil)
	if err != nil {
		t.Fatalf("start NATS cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stop NATS cluster: %v", err)
		}
	})
	e := &Env{Replicas: 3, plan: bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 30, Replicas: 3}, url: c.URL}
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
	if err := bus.Provision(ctx, e.Connect(t), e.Plan()); err != nil {
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
