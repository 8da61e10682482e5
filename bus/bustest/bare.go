package bustest

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Bare starts a server without JetStream, for tests that fake the answers of JetStream. It returns
// the URL of the server, which the test's cleanup stops.
func Bare(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}
