package bustest

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

// Virtual runs test on one open server in a bubble of [testing/synctest]: an hour passes as soon as everybody waits for it, so
// that a test of deadlines takes milliseconds and does not depend on the machine. Time begins in the year 2000, so keys and
// tokens are made inside. The server does not listen, and [Env.URL] is of no use. A cluster needs sockets and cannot enter.
// The test must not be parallel.
//
// In the long form the test runs on a cluster of three as well, in real time.
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

// Bubble is [synctest.Test] for what runs NATS servers, which must not listen. The test must not be parallel.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	// The server's clock for access times is one for the whole process, and must be started outside.
	ats.Register()
	defer ats.Unregister()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, test)
}

// emptyPools drops what the packages of this process keep for reuse. The NATS client keeps timers, and a timer that was made
// on one side of a bubble cannot be used on the other. A [sync.Pool] is empty after two collections.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}
