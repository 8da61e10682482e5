package ledger_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/example/pillion/bus/bustest"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(natsEnv); args != "" {
		fmt.Fprintln(os.Stderr, natsMain(args))
		os.Exit(1)
	}
	os.Exit(bustest.Main(m))
}
