// Package wait waits for conditions in tests, keeps a log that a test can read, and tells the short
// form of tests (`make test`) from the long one (`make check`).
//
// Call [Until] only for a state that cannot be awaited in any other way: it polls.
package wait

import (
	"context"
	"os"
	"testing"
	"time"
)

// Patience bounds the time that anything may take on a busy machine. A test that waits longer
// fails.
const Patience = time.Minute

// Long reports whether tests run in their long form, with more rounds and all cluster sizes. `make
// check` sets PILLION_LONG for that.
func Long() bool { return os.Getenv("PILLION_LONG") != "" }

// The pause between two calls of ok starts at firstPause and doubles up to longestPause.
const (
	firstPause   = time.Millisecond
	longestPause = 64 * time.Millisecond
)

// Until polls until ok returns true. After [Patience] it fails the test with a description of what
// it waited for.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, Patience, what, ok)
}

// Within is [Until] with another patience.
func Within(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	over := time.After(patience)
	for pause := firstPause; !ok(); pause = min(2*pause, longestPause) {
		select {
		case <-time.After(pause):
		case <-over:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// For waits until done is closed. After [Patience] it fails the test with a description of what it
// waited for.
func For(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

// Every calls do at even times until ctx ends, at once for the first time, with 0, 1, 2 and so on.
func Every(ctx context.Context, stride time.Duration, do func(n int)) {
	tick := time.NewTicker(stride)
	defer tick.Stop()
	for n := 0; ; n++ {
		do(n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
