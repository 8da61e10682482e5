//go:build linux

// Package gateway runs the gateway of a cluster: Caddy, with the file that the containers have,
// before two instances of each service. See make gateway-test.
package gateway

import (
	"os"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// wantedEnv asks for these tests, which need Caddy.
const wantedEnv = "PILLION_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(wantedEnv) == "" { // nothing to build
		os.Exit(wait.Main(m))
	}
	os.Exit(proctest.Main(m))
}
