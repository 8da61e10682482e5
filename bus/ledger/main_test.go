package ledger_test

import (
	"os"
	"testing"

	"github.com/example/pillion/bus/bustest"
)

func TestMain(m *testing.M) { os.Exit(bustest.Main(m)) }
