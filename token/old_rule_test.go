package token_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// oldRule returns where the old rule ends; -1: it does not.
func oldRule(s *token.KeySet) int64 {
	until, closed := s.OldRuleUntil()
	if !closed {
		return -1
	}
	return int64(until)
}

// The end of the old rule moves to earlier sequences only. Every change of the keys keeps it, and
// so does the wire.
func TestTheOldRuleStaysClosed(t *testing.T) {
	ok := must(t)
	one, two, three := madeKey(1), madeKey(2), madeKey(3)
	open := ok(token.FirstSet(one, start))
	if oldRule(open) != -1 || oldRule(ok(token.ParseJWKS(open.JWKS()))) != -1 {
		t.Error("the rule has ended before it was closed")
	}
	set := open.CloseOldRule(70)
	for seq, want := range map[uint64]int64{math.MaxUint64: 70, 71: 70, 70: 70, 69: 69, 0: 0} {
		if got := oldRule(set.CloseOldRule(seq)); got != want {
			t.Errorf("closed at 70 and then at %d: it ends at %d, want %d", seq, got, want)
		}
	}
	if set.CloseOldRule(71) != set {
		t.Error("what changes nothing makes another set")
	}
	now := start.Add(time.Hour)
	next := ok(set.WithNext(two, start))
	rotated := ok(next.Rotate(now))
	for name, s := range map[string]*token.KeySet{
		"a next key": next, "a rotation": rotated, "an adopted key": ok(set.Adopt(three, now)),
		"a retired key":      ok(next.Retire(now, now, one.ID)),
		"a forgotten key":    ok(rotated.Forget(now.Add(time.Hour))),
		"a key for no other": ok(ok(ok(set.Retire(now, now, one.ID)).WithNext(two, now)).Rotate(now)),
	} {
		if got, wired := oldRule(s), oldRule(ok(token.ParseJWKS(s.JWKS()))); got != 70 || wired != 70 {
			t.Errorf("%s: it ends at %d, and on the wire at %d", name, got, wired)
		}
		public := ok(s.Published())
		if oldRule(public) != -1 || oldRule(s) != 70 {
			t.Errorf("%s: strangers are told where it ends, or the set has forgotten it", name)
		}
	}
	if !set.ChangesThePast(open, now) || !set.CloseOldRule(69).ChangesThePast(set, now) {
		t.Error("the end of the rule changes nothing")
	}
	if set.ChangesThePast(set, now) || open.ChangesThePast(set, now) || set.ChangesThePast(nil, now) {
		t.Error("a set without news changes the past")
	}
	keys := string(open.JWKS()[:len(open.JWKS())-1])
	for _, bad := range []string{`"70"`, `-1`, `7.5`, `1e3`, `18446744073709551616`, `null`, `[70]`} {
		if s, err := token.ParseJWKS([]byte(keys + `,"old_rule_until":` + bad + `}`)); !errors.Is(err, token.ErrKeySet) {
			t.Errorf("%s: %v", bad, s)
		}
	}
	if _, err := token.ParseJWKS([]byte(keys + `,"Old_Rule_Until":70}`)); err == nil {
		t.Error("another spelling is ignored")
	}
}

// An access token proves an event up to the end of the old rule and none behind it, whatever the
// time. An event token proves both.
func TestTheOldRuleEnds(t *testing.T) {
	a := tokentest.New(t)
	raw, proof := a.Pair(token.User, tokentest.Ulla)
	now := a.Now()
	v, err := token.NewVerifier(token.Config{Keys: token.StaticKeys(a.KeySet().CloseOldRule(70)), Now: a.Now})
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]string{1: "", 70: "", 71: "old_rule", math.MaxUint64: "old_rule"} {
		for range 2 { // the second time it is remembered
			c, err := v.VerifyAccessAt(t.Context(), raw, now, seq)
			if token.Reason(err) != want || (err == nil) != (c.Subject != "") {
				t.Errorf("message %d: %v %+v, want %q", seq, err, c, want)
			}
			if want != "" && !errors.Is(err, token.ErrInvalid) {
				t.Errorf("message %d: not for good: %v", seq, err)
			}
		}
	}
	if _, err := v.VerifyAt(t.Context(), proof, now); err != nil {
		t.Errorf("an event token: %v", err)
	}
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("a request: %v", err)
	}
	if !slices.Contains(token.RefusalReasons(), "old_rule") {
		t.Error("the reason is not declared")
	}
}
