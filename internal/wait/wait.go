// Package wait says how long tests go on: it lets them wait for what announces itself in no other way, and tells the short forms
// of `make test` from the long ones of `make check`.
package wait

import (
	"os"
	"testing"
	"time"
)

// Patience is how long something may take on a machine that has much else to do. A test that waits for longer fails.
const Patience = time.Minute

// Long reports whether tests take their long forms, as `make check` asks for with PILLION_LONG: more rounds, and every size.
func Long() bool { return os.Getenv("PILLION_LONG") != "" }

// The first look but one comes after firstPause. Every pause is twice as long as the one before, up to longestPause: what takes seconds is not asked for
// a thousand times.
const (
	firstPause   = time.Millisecond
	longestPause = 64 * time.Millisecond
)

// Until waits until ok holds, and fails the test with what was waited for where that takes longer than [Patience].
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, Patience, what, ok)
}

// Within is [Until] with a patience of its own.
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

// For waits until done is closed, and fails the test with what was waited for where that takes longer than [Patience].
func For(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
	}
}
