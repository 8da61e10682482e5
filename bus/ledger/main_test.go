package ledger_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(natsEnv); args != "" {
		fmt.Fprintln(os.Stderr, natsMain(args))
		os.Exit(1)
	}
	os.Exit(wait.Main(m))
}
