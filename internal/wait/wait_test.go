package wait_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

func TestUntil(t *testing.T) {
	looks := 0
	wait.Until(t, "the third look", func() bool {
		looks++
		return looks == 3
	})
	if looks != 3 {
		t.Errorf("%d calls, want 3", looks)
	}
}

// TestWithin lets a wait time out: the test must fail with the description, and stop there.
func TestWithin(t *testing.T) {
	var f failing
	done := make(chan bool)
	go func() {
		defer func() { done <- f.message == "" }()
		wait.Within(&f, 20*time.Millisecond, "never", func() bool { return false })
		f.message = ""
	}()
	if passed := <-done; passed || f.message != "not within 20ms: never" {
		t.Errorf("passed %v: %s", passed, f.message)
	}
}

// failing is a test that records its failure.
type failing struct {
	testing.TB
	message string
}

func (*failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
