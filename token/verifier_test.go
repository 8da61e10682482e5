package token_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

const (
	second = time.Second
	tick   = time.Nanosecond
)

// When a token of a request is valid: up to exp and not at it, and up to 5 seconds before iat and
// nbf. A second look at the same token, now cached, judges alike, whichever way the clock has gone.
func TestVerifyTimes(t *testing.T) {
	a := tokentest.New(t)
	exp, nbf := start.Add(time.Minute), start.Add(20*second)
	claims := a.Claims("user", tokentest.Ulla, "ulla@example.com", start, exp)
	plain := a.Raw(a.Private, a.Header(), claims)
	later := a.Raw(a.Private, a.Header(), strings.TrimSuffix(claims, "}")+fmt.Sprintf(`,"nbf":%d}`, nbf.Unix()))
	for _, tt := range []struct {
		name   string
		raw    string
		now    time.Time
		reason string
	}{
		{"at iat", plain, start, ""},
		{"5 s before iat", plain, start.Add(-5 * second), ""},
		{"5 s and a tick before iat", plain, start.Add(-5*second - tick), "not_yet_valid"},
		{"a tick before exp", plain, exp.Add(-tick), ""},
		{"at exp", plain, exp, "expired"},
		{"a second after exp", plain, exp.Add(second), "expired"},
		{"5 s before nbf", later, nbf.Add(-5 * second), ""},
		{"5 s and a tick before nbf", later, nbf.Add(-5*second - tick), "not_yet_valid"},
		{"years before", plain, time.Time{}, "not_yet_valid"},
		{"before 1970", plain, time.Unix(-10, 0), "not_yet_valid"},
		{"years after", plain, start.AddDate(100, 0, 0), "expired"},
	} {
		for _, cached := range []bool{false, true} {
			now := start.Add(30 * second)
			v := verifier(t, token.Config{Keys: a.Keys(), Now: func() time.Time { return now }})
			if cached {
				c, err := v.Verify(t.Context(), tt.raw)
				wantRefused(t, tt.name+": first", "", c, err)
			}
			now = tt.now
			c, err := v.Verify(t.Context(), tt.raw)
			wantRefused(t, fmt.Sprintf("%s (cached %v)", tt.name, cached), tt.reason, c, err)
		}
	}
}

// As of when an event's token is valid: 15 seconds more on every side, and whatever the clock says
// now.
func TestVerifyAtTimes(t *testing.T) {
	a := tokentest.New(t)
	exp, nbf := start.Add(time.Minute), start.Add(20*second)
	claims := a.Claims("raider", tokentest.Rita, "rita@example.com", start, exp)
	plain := a.Raw(a.Private, a.Header(), claims)
	later := a.Raw(a.Private, a.Header(), strings.TrimSuffix(claims, "}")+fmt.Sprintf(`,"nbf":%d}`, nbf.Unix()))
	clocks := []time.Time{start.AddDate(-1, 0, 0), start.Add(30 * second), start.AddDate(1, 0, 0)}
	for _, tt := range []struct {
		name   string
		raw    string
		at     time.Time
		reason string
	}{
		{"at iat", plain, start, ""},
		{"15 s before iat", plain, start.Add(-15 * second), ""},
		{"15 s and a tick before iat", plain, start.Add(-15*second - tick), "not_yet_valid"},
		{"at exp", plain, exp, ""},
		{"a tick less than 15 s after exp", plain, exp.Add(15*second - tick), ""},
		{"15 s after exp", plain, exp.Add(15 * second), "expired"},
		{"15 s before nbf", later, nbf.Add(-15 * second), ""},
		{"15 s and a tick before nbf", later, nbf.Add(-15*second - tick), "not_yet_valid"},
		{"in another zone", plain, exp.In(time.FixedZone("UTC+5:30", 19800)), ""},
		{"at no time", plain, time.Time{}, "not_yet_valid"},
	} {
		for _, now := range clocks {
			v := verifier(t, token.Config{Keys: a.Keys(), Now: func() time.Time { return now }})
			for _, how := range []string{"uncached", "cached"} {
				c, err := v.VerifyAccessAt(t.Context(), tt.raw, tt.at, 1)
				wantRefused(t, fmt.Sprintf("%s, %s, read at %s", tt.name, how, now), tt.reason, c, err)
				if _, err := v.VerifyAccessAt(t.Context(), tt.raw, start.Add(30*second), 1); err != nil {
					t.Fatalf("fill the cache: %v", err)
				}
			}
		}
	}
}

// Whatever admits a request, its event is valid, however long the append took and however
// the clocks differ.
func TestAnAcceptedRequestMakesAGoodEvent(t *testing.T) {
	a := tokentest.New(t)
	exp, retired := start.Add(time.Minute), start.Add(30*second)
	keys := token.StaticKeys(keySet(t, keyOf(&a.Private.PublicKey, retired), tokentest.KeyOf(&a.Other.PublicKey)))
	accepted := 0
	for iat := start; iat.Before(exp); iat = iat.Add(5 * second) {
		raw := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", iat, exp))
		for now := start.Add(-20 * second); now.Before(exp.Add(20 * second)); now = now.Add(500 * time.Millisecond) {
			v := verifier(t, token.Config{Keys: keys, Now: func() time.Time { return now }})
			if _, err := v.Verify(t.Context(), raw); err != nil {
				continue
			}
			accepted++
			for _, stored := range []time.Duration{-10 * second, -5 * second, 0, 10 * second, 15 * second} {
				c, err := v.VerifyAccessAt(t.Context(), raw, now.Add(stored), 1)
				wantRefused(t, fmt.Sprintf("iat %s, let in at %s, stored %s later", iat, now, stored), "", c, err)
			}
		}
	}
	if accepted < 100 {
		t.Errorf("%d requests were let in: the test proves nothing", accepted)
	}
}

// A retired key verifies what was issued until it retired: exactly, for a request, and up to 15
// seconds later for an event.
func TestRetiredKey(t *testing.T) {
	a := tokentest.New(t)
	retired := start.Add(700 * time.Millisecond) // of which whole seconds count
	set := keySet(t, tokentest.KeyOf(&a.Other.PublicKey), keyOf(&a.Private.PublicKey, retired))
	reread, err := token.ParseJWKS(set.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		iat            time.Duration
		request, event string
	}{
		{-time.Hour, "", ""},
		{0, "", ""},
		{second, "retired_key", ""},
		{15 * second, "retired_key", ""},
		{16 * second, "retired_key", "retired_key"},
		{time.Hour, "retired_key", "retired_key"},
	} {
		iat := start.Add(tt.iat)
		now := iat.Add(second)
		raw := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", iat,
			iat.Add(24*time.Hour)))
		for _, keys := range []*token.KeySet{set, reread} {
			v := verifier(t, token.Config{Keys: token.StaticKeys(keys), Now: func() time.Time { return now }})
			for _, how := range []string{"uncached", "cached"} {
				c, err := v.Verify(t.Context(), raw)
				wantRefused(t, fmt.Sprintf("iat %s after it retired, %s", tt.iat, how), tt.request, c, err)
				c, err = v.VerifyAccessAt(t.Context(), raw, now, 1)
				wantRefused(t, fmt.Sprintf("event, iat %s after it retired, %s", tt.iat, how), tt.event, c, err)
				c, err = v.VerifyAccessAt(t.Context(), raw, now.Add(23*time.Hour), 1)
				wantRefused(t, fmt.Sprintf("late event, iat %s after it retired, %s", tt.iat, how), tt.event, c, err)
			}
		}
	}
}

// A cached token is judged again at each use: keys that went away or retired meanwhile no longer
// let it in.
func TestCachedTokensAreJudgedAgain(t *testing.T) {
	a := tokentest.New(t)
	mine, other := tokentest.KeyOf(&a.Private.PublicKey), tokentest.KeyOf(&a.Other.PublicKey)
	clock := newClock(start)
	keys := token.NewRemoteKeys(nil, 0, clock.Now)
	v := verifier(t, token.Config{Keys: keys, Now: clock.Now})
	a.Now = clock.Now
	raw := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	for _, step := range []struct {
		name   string
		change func()
		reason string
	}{
		{"first", func() { keys.Offer(keySet(t, mine)) }, ""},
		{"cached", func() {}, ""},
		{"its key is gone", func() { keys.Offer(keySet(t, other)) }, "unknown_key"},
		{"its key is back", func() { keys.Offer(keySet(t, other, mine)) }, ""},
		{"its key retired just then", func() { keys.Offer(keySet(t, other, keyOf(mine.Public, start))) }, ""},
		{"its key retired before it was issued", func() { keys.Offer(keySet(t, other, keyOf(mine.Public, start.Add(-second)))) }, "retired_key"},
		{"its key is good again", func() { keys.Offer(keySet(t, mine)) }, ""},
		{"a second before it expires", func() { clock.Advance(15*time.Minute - second) }, ""},
		{"expired", func() { clock.Advance(second) }, "expired"},
		{"long before it was issued", func() { clock.Set(start.Add(-time.Hour)) }, "not_yet_valid"},
		{"in time again", func() { clock.Set(start) }, ""},
	} {
		step.change()
		c, err := v.Verify(t.Context(), raw)
		wantRefused(t, step.name, step.reason, c, err)
		if n := v.CacheLen(); n != 2 { // itself and its event token
			t.Errorf("%s: %d tokens are cached", step.name, n)
		}
	}
}

// The cache knows a token by all of it, be it short or over 1 KiB: what differs in one character is
// another token.
func TestCachedTokensAreWhole(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	claims := a.Claims("user", tokentest.Ulla, "ulla@example.com", a.Now(), a.Now().Add(time.Hour))
	fills := []int{0, 1000}
	if wait.Long() {
		fills = []int{0, 300, 1000, 2000}
	}
	for _, fill := range fills {
		raw := a.Raw(a.Private, a.Header(), strings.TrimSuffix(claims, "}")+`,"x":"`+strings.Repeat("x", fill)+`"}`)
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		for i := range len(raw) {
			for _, c := range []byte{'A', '.', raw[i] ^ 0x20, raw[i] ^ 1} {
				if c == raw[i] {
					continue
				}
				got, err := v.Verify(t.Context(), raw[:i]+string(c)+raw[i+1:])
				if err == nil || got != (token.Claims{}) {
					t.Fatalf("of %d bytes, with %q at %d it is accepted", len(raw), c, i)
				}
			}
		}
		if c, err := v.Verify(t.Context(), raw); err != nil || c.Subject != tokentest.Ulla {
			t.Errorf("the token of %d bytes itself: %v", len(raw), err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	a := tokentest.New(t)
	var raws []string
	for range 100 {
		raws = append(raws, a.Token(token.User, tokentest.Ulla, "ulla@example.com"))
	}
	for _, size := range []int{1, 2, 15, 16, 17, 40, 1000} {
		v := verifier(t, token.Config{Keys: a.Keys(), CacheSize: size})
		for range 2 {
			for _, raw := range raws {
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := v.CacheLen(); n > size || n < min(size, 100)/2 {
			t.Errorf("a cache of %d holds %d", size, n)
		}
	}
	v := a.Verifier()
	for _, raw := range raws[:20] {
		if _, err := v.VerifyAccessAt(t.Context(), raw, a.Now(), 1); err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyAt(t.Context(), string(c.Event), a.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.CacheLen(); n != 40 {
		t.Errorf("20 tokens with their event tokens, verified in events and in requests, are %d in the cache", n)
	}
}

// Requests that are refused are counted by reason, events are not: their reader does.
func TestRefusalsAreCounted(t *testing.T) {
	a := tokentest.New(t)
	registry := prometheus.NewRegistry()
	v := verifier(t, token.Config{Keys: a.Keys(), Registerer: registry})
	twin := verifier(t, token.Config{Keys: token.NewRemoteKeys(nil, 0, nil), Registerer: registry})
	want := map[string]int{"no_keys": 1}
	for _, f := range a.Forgeries() {
		_, _ = v.Verify(t.Context(), f.Token)
		_, _ = v.VerifyAccessAt(t.Context(), f.Token, a.Now(), 1)
		want[f.Reason]++
	}
	good := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	_, _ = v.Verify(t.Context(), good)
	_, _ = twin.Verify(t.Context(), good)
	var text strings.Builder
	text.WriteString("# HELP pillion_tokens_refused_total Tokens of requests that were refused or could not be verified, by reason.\n" +
		"# TYPE pillion_tokens_refused_total counter\n")
	for _, reason := range []string{"malformed", "type", "algorithm", "unknown_key", "signature", "expired",
		"not_yet_valid", "lifetime",
		"issuer", "audience", "role", "retired_key", "compromised_key", "revoked", "old_rule", "no_keys", "no_revocations",
		"clock", "undecided"} {
		fmt.Fprintf(&text, "pillion_tokens_refused_total{reason=%q} %d\n", reason, want[reason])
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(text.String()),
		"pillion_tokens_refused_total"); err != nil {
		t.Error(err)
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	a := tokentest.New(t)
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "pillion", Name: "tokens_refused_total",
		Help: "Another."}))
	for _, tt := range []struct {
		name   string
		config token.Config
		says   []string
	}{
		{"nothing", token.Config{}, []string{"Keys"}},
		{"two things wrong", token.Config{CacheSize: -1}, []string{"Keys", "CacheSize"}},
		{"a counter of that name", token.Config{Keys: a.Keys(), Registerer: taken}, []string{"tokens_refused_total"}},
	} {
		v, err := token.NewVerifier(tt.config)
		if v != nil || !errors.Is(err, token.ErrSettings) {
			t.Errorf("%s: got %v", tt.name, err)
			continue
		}
		for _, s := range tt.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not name %s", tt.name, err, s)
			}
		}
	}
}

// A source of keys that fails in a way of its own still means that there are no keys, and its
// failure is kept for operators.
func TestKeysThatFail(t *testing.T) {
	down := errors.New("the bucket is away")
	v := verifier(t, token.Config{Keys: failing{down}})
	a := tokentest.New(t)
	for _, raw := range []string{a.Token(token.User, tokentest.Ulla, "ulla@example.com"), "invalid.token.here", ""} {
		c, err := v.Verify(t.Context(), raw)
		wantUndecided(t, "a request", token.ErrNoKeys, err, c)
		if !errors.Is(err, down) {
			t.Errorf("the cause is lost: %v", err)
		}
		c, err = v.VerifyAccessAt(t.Context(), raw, a.Now(), 1)
		wantUndecided(t, "an event", token.ErrNoKeys, err, c)
	}
}

type failing struct{ err error }

var _ token.Keys = failing{}

func (f failing) KeySet() (*token.KeySet, time.Time, error) { return nil, time.Time{}, f.err }
func (f failing) Refresh(context.Context) bool              { return false }
