package bustest

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// Virtual runs test on one server without access control, in a bubble of [testing/synctest]. Time
// passes when all goroutines wait for it, so a test of deadlines takes milliseconds, and does not
// depend on the speed of the machine. Time begins in the year 2000: create keys and tokens inside
// test. The server does not listen, so [Env.URL] is useless. The test must not be parallel.
//
// In the long form, Virtual also runs test on a cluster of three, which needs sockets, in real
// time.
func Virtual(t *testing.T, test func(t *testing.T, e *Env)) {
	t.Helper()
	t.Run("one replica", func(t *testing.T) {
		Bubble(t, func(t *testing.T) {
			s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatalf("start NATS: %v", err)
			}
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Errorf("stop NATS: %v", err)
				}
			})
			e := &Env{Replicas: 1, Virtual: true, plan: plan(), inside: s.Provider()}
			e.plan.Replicas = 1
			e.provision(t)
			test(t, e)
		})
	})
	if wait.Long() {
		t.Run("three replicas", func(t *testing.T) { test(t, RunCluster(t)) })
	}
}

// Bubble is [synctest.Test] for tests that run NATS servers that do not listen. The test must not
// be parallel.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	// All servers of a process share a clock for access times, which must be started outside the
	// bubble.
	ats.Register()
	defer ats.Unregister()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, test)
}

// emptyPools empties all instances of [sync.Pool], which takes two garbage collections. The NATS
// client pools timers, and a timer from inside a bubble cannot be used outside, or vice versa.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}
