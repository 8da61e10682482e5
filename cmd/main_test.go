// Package cmd_test starts the real programs with every setting that people give them, and stops them.
package cmd_test

import (
	"os"
	"testing"

	"github.com/example/pillion/test/e2e/proctest"
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(m)) }
