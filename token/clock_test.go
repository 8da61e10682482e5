package token_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// Where the clock cannot be gone by, nothing is said of a request's token, be it good or bad. An
// event's is judged by another clock.
func TestClockThatIsOff(t *testing.T) {
	a := tokentest.New(t)
	off := token.ErrClock.Because(errors.New("it is an hour ahead"))
	var clock error
	registry := prometheus.NewRegistry()
	v, err := token.NewVerifier(token.Config{Keys: a.Keys(), Now: a.Now, Clock: func() error { return clock },
		Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	good := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	try := func(when string, want error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), good); !errors.Is(err, want) {
			t.Errorf("%s: a good one: %v, want %v", when, err, want)
		}
		if _, err := v.VerifyAccessAt(t.Context(), good, a.Now(), 1); err != nil {
			t.Errorf("%s: an event's: %v", when, err)
		}
	}
	try("at first", nil)
	clock = off
	try("off", token.ErrClock)
	if _, err := v.Verify(t.Context(), "nonsense"); !errors.Is(err, token.ErrClock) {
		t.Errorf("off: a bad one: %v", err)
	}
	clock = nil
	try("right again", nil)
	if n := testutil.CollectAndCount(registry, "pillion_tokens_refused_total"); n == 0 {
		t.Error("nothing is counted")
	}
}
