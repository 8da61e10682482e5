package usersvc_test

import (
	"os"
	"testing"

	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) {
	if os.Getenv(onlookers) != "" { // this process is the other side of BenchmarkWatch
		os.Exit(lookOn(os.Stdin, os.Stdout))
	}
	os.Exit(wait.Main(m))
}
