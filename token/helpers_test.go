package token_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// start is when tests with a clock of their own begin.
var start = time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)

// A clock is moved by hand.
type clock struct{ nanos atomic.Int64 }

func newClock(at time.Time) *clock {
	c := new(clock)
	c.Set(at)
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) Set(at time.Time)        { c.nanos.Store(at.UnixNano()) }
func (c *clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }

// verifier returns a verifier of a configuration that is known to be good.
func verifier(t testing.TB, c token.Config) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(c)
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return v
}

// keySet returns a set of keys that are known to be good.
func keySet(t testing.TB, keys ...token.Key) *token.KeySet {
	t.Helper()
	s, err := token.NewKeySet(keys...)
	if err != nil {
		t.Fatalf("NewKeySet: %v", err)
	}
	return s
}

// keyOf returns a public key as it stands in a set, retired at a time unless that is zero.
func keyOf(pub *rsa.PublicKey, retired time.Time) token.Key {
	k := tokentest.KeyOf(pub)
	k.RetiredAt = retired
	return k
}

// wantRefused reports a result that is not zero Claims with ErrInvalid for a reason; an empty
// reason wants acceptance.
func wantRefused(t testing.TB, what, reason string, c token.Claims, err error) {
	t.Helper()
	if reason == "" {
		if err != nil || c == (token.Claims{}) {
			t.Errorf("%s: got %v, want it accepted", what, err)
		}
		return
	}
	if got := token.Reason(err); got != reason || !errors.Is(err, token.ErrInvalid) {
		t.Errorf("%s: got %v, want ErrInvalid for the reason %s", what, err, reason)
	}
	if c != (token.Claims{}) {
		t.Errorf("%s: refused with claims", what)
	}
}

// wantUndecided reports a result that is not zero Claims with an error like want, to be tried
// again.
func wantUndecided(t testing.TB, what string, want, err error, c token.Claims) {
	t.Helper()
	if !errors.Is(err, want) || errors.Is(err, token.ErrInvalid) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter != time.Second {
		t.Errorf("%s: got %v, want it unavailable for a second", what, err)
	}
	if c != (token.Claims{}) {
		t.Errorf("%s: undecided with claims", what)
	}
}

// read returns a file of testdata.
func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newKey makes an RSA key.
func newKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
