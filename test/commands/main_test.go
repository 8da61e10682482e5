// Package commands runs the real programs with each of their commands and settings, and stops them.
// Stories of rides are in package e2e.
package commands

import (
	"os"
	"testing"

	"github.com/example/pillion/test/proctest"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(holderEnv); args != "" {
		holderMain(args)
		return
	}
	os.Exit(proctest.Main(m))
}
