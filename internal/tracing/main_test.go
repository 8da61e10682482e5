package tracing_test

import (
	"os"
	"testing"

	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }
