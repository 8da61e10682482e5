package usersvc_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(onlookers) != "" { // this process is the other side of BenchmarkWatch
		os.Exit(lookOn(os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}
