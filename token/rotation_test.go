package token_test

import (
	"crypto/rsa"
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// madeKey returns a key that looks like one. Nothing can be signed with it.
func madeKey(i int) token.Key {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	return tokentest.KeyOf(&rsa.PublicKey{N: n.Add(n, big.NewInt(int64(2*i+1))), E: 65537})
}

// must returns a set, or ends the test.
func must(t *testing.T) func(*token.KeySet, error) *token.KeySet {
	return func(s *token.KeySet, err error) *token.KeySet {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// stages returns the stages of all keys at a time, in their order, and checks that they survive the
// wire.
func stages(t *testing.T, s *token.KeySet, now time.Time) []token.Stage {
	t.Helper()
	wire, err := token.ParseJWKS(s.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	var found []token.Stage
	for i, k := range s.Keys() {
		found = append(found, k.Stage(now))
		if got := wire.Keys()[i].Stage(now); got != k.Stage(now) {
			t.Errorf("key %d is %s, and on the wire %s", i, k.Stage(now), got)
		}
	}
	return found
}

// A key goes from next to active to retired and is gone, and at every moment one key signs.
func TestRotation(t *testing.T) {
	ok := must(t)
	one, two, three := madeKey(1), madeKey(2), madeKey(3)
	expect := func(s *token.KeySet, now time.Time, want ...token.Stage) {
		t.Helper()
		if got := stages(t, s, now); !slices.Equal(got, want) {
			t.Errorf("the stages are %v, want %v", got, want)
		}
	}
	set := ok(token.FirstSet(one, start))
	expect(set, start, token.Active)
	if _, err := set.Rotate(start); !errors.Is(err, token.ErrNoNextKey) {
		t.Errorf("a rotation to nothing: %v", err)
	}
	set = ok(set.WithNext(two, start))
	expect(set, start, token.Active, token.Next)
	if again := ok(set.WithNext(three, start)); again != set {
		t.Error("there are two next keys")
	}
	set = ok(set.Rotate(start.Add(time.Hour)))
	at := start.Add(time.Hour + token.RotationLead)
	expect(set, at.Add(-time.Nanosecond), token.Active, token.Next)
	expect(set, at, token.Retired, token.Active)
	if set.HasNext() {
		t.Error("the key whose time is set is still the next one")
	}
	// A further rotation before the first one has come to pass.
	set = ok(set.WithNext(three, start.Add(time.Hour)))
	set = ok(set.Rotate(start.Add(time.Hour)))
	expect(set, at, token.Retired, token.Active, token.Next)
	expect(set, at.Add(time.Second), token.Retired, token.Retired, token.Active)
	if same := ok(set.Forget(at)); same != set {
		t.Error("a key was forgotten too early")
	}
	expect(ok(set.Forget(at.Add(time.Second))), at.Add(time.Hour), token.Retired, token.Active)
}

// A compromised key is out, whatever it was, and somebody signs as long as there is anybody.
func TestRetire(t *testing.T) {
	ok := must(t)
	one, two, three := madeKey(1), madeKey(2), madeKey(3)
	now := start.Add(time.Hour)
	set := ok(ok(token.FirstSet(one, start)).WithNext(two, start))
	if _, err := set.Retire(now, now, "nobody"); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("a key that is not there: %v", err)
	}
	if _, err := set.Retire(now, now.Add(time.Minute), one.ID); !errors.Is(err, token.ErrKeyIsNew) {
		t.Errorf("as of a time to come: %v", err)
	}
	signs := func(s *token.KeySet, want string) {
		t.Helper()
		if active, _ := s.Active(now); active.ID != want {
			t.Errorf("the key that signs is %q, want %q", active.ID, want)
		}
	}
	signs(ok(set.Retire(now, now, one.ID)), two.ID)
	signs(ok(set.Retire(now, now, two.ID)), one.ID)
	none := ok(set.Retire(now, now, one.ID, two.ID))
	signs(none, "")
	signs(ok(none.Adopt(three, now)), three.ID)
	signs(ok(ok(none.WithNext(three, now)).Rotate(now)), three.ID)
	// One that takes over soon does so now, before one that waits.
	signs(ok(ok(ok(set.Rotate(now)).WithNext(three, now)).Retire(now, now, one.ID)), two.ID)

	if published := ok(ok(set.Retire(now, now, one.ID)).Published()); len(published.Keys()) != 1 {
		t.Errorf("%d keys are published, want the good one", len(published.Keys()))
	}
	if _, err := none.Published(); !errors.Is(err, token.ErrKeySet) {
		t.Errorf("a set of bad keys is published: %v", err)
	}
	// As of earlier, never as of later.
	// Where the one that was to take over is bad, the next in line does, or nobody.
	if s := ok(ok(set.Rotate(now)).Retire(now, now, two.ID)); !slices.Equal(stages(t, s, now.Add(time.Hour)),
		[]token.Stage{token.Active, token.Compromised}) {
		t.Errorf("the active key retires, and nobody takes over: %s", s.JWKS())
	}
	set = ok(set.Retire(now, start, one.ID))
	if k, _ := ok(set.Retire(now, now, one.ID)).Lookup(one.ID); !k.CompromisedAt.Equal(start) {
		t.Errorf("it is compromised as of %v, want %v", k.CompromisedAt, start)
	}
	if s := ok(set.Adopt(one, now)); s != set {
		t.Error("a key that was compromised is adopted")
	}
}

// Whatever operators and keepers do, in whatever order: where there was somebody who could sign,
// there is.
func TestSomebodySigns(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		now, made := start, 1
		set, err := token.FirstSet(madeKey(0), now)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			now = now.Add(time.Duration(r.IntN(8000)) * time.Millisecond)
			next, err := set, error(nil)
			switch r.IntN(6) {
			case 0, 1:
				next, err = set.WithNext(madeKey(made), now)
				made++
			case 2, 3:
				next, err = set.Rotate(now)
			case 4:
				next, err = set.Forget(now.Add(-20 * time.Second))
			case 5:
				if !set.HasNext() {
					continue // nobody could take over
				}
				k := set.Keys()[r.IntN(len(set.Keys()))]
				next, err = set.Retire(now, now.Add(-time.Duration(r.IntN(60))*time.Second), k.ID)
			}
			if err == nil {
				set = next
			}
			for _, at := range []time.Time{now, now.Add(token.RotationLead), now.Add(time.Hour)} {
				active, ok := set.Active(at)
				if !ok {
					t.Fatalf("seed %d: nobody signs: %s", seed, set.JWKS())
				}
				for _, k := range set.Keys() {
					if k.ID != active.ID && k.Stage(at) == token.Active {
						t.Fatalf("seed %d: two keys are active: %s", seed, set.JWKS())
					}
				}
			}
		}
	}
}

// Requests with a compromised key are refused at once, events when they were stored later than the
// leeway after that.
func TestCompromisedKey(t *testing.T) {
	a := tokentest.New(t)
	now := start.Add(10 * time.Minute)
	a.Now = func() time.Time { return start }
	raw := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	key := tokentest.KeyOf(&a.Private.PublicKey)
	key.CompromisedAt = start.Add(5 * time.Minute)
	v := verifier(t, token.Config{Keys: token.StaticKeys(keySet(t, key)), Now: func() time.Time { return now }})
	if _, err := v.Verify(t.Context(), raw); token.Reason(err) != "compromised_key" {
		t.Errorf("a request: %v", err)
	}
	last := key.CompromisedAt.Add(token.EventLeeway)
	if _, err := v.VerifyAccessAt(t.Context(), raw, last, 1); err != nil {
		t.Errorf("an event of before: %v", err)
	}
	if _, err := v.VerifyAccessAt(t.Context(), raw, last.Add(time.Nanosecond), 1); token.Reason(err) != "compromised_key" {
		t.Errorf("an event of after: %v", err)
	}
}

// Nothing is said of an event before it is known what has become of its key.
func TestEventsWaitForKeyChanges(t *testing.T) {
	a := tokentest.New(t)
	clock := start
	a.Now = func() time.Time { return clock }
	raw := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	keys := token.NewRemoteKeys(nil, 0, func() time.Time { return clock })
	v := verifier(t, token.Config{Keys: keys, Now: func() time.Time { return clock }})
	keys.Offer(a.KeySet())
	stored := start.Add(token.EventLeeway - token.ChangeDelay)
	if _, err := v.VerifyAccessAt(t.Context(), raw, stored, 1); err != nil {
		t.Errorf("the last that can be judged: %v", err)
	}
	stored = stored.Add(time.Nanosecond)
	if _, err := v.VerifyAccessAt(t.Context(), raw, stored, 1); !errors.Is(err, token.ErrUndecided) {
		t.Errorf("the first that cannot: %v", err)
	}
	clock = clock.Add(time.Second)
	keys.Offer(a.KeySet())
	if _, err := v.VerifyAccessAt(t.Context(), raw, stored, 1); err != nil {
		t.Errorf("when more is known: %v", err)
	}
}

func TestChangesThePast(t *testing.T) {
	ok := must(t)
	one, two := madeKey(1), madeKey(2)
	set := ok(ok(token.FirstSet(one, start)).WithNext(two, start))
	now := start.Add(time.Hour)
	for _, tt := range []struct {
		name string
		next *token.KeySet
		want bool
	}{
		{"a rotation", ok(set.Rotate(now)), false},
		{"compromised now", ok(set.Retire(now, now, one.ID)), false},
		{"compromised as long ago as it may take to say so", ok(set.Retire(now, now.Add(-token.ChangeDelay), one.ID)), false},
		{"compromised before", ok(set.Retire(now, now.Add(-token.ChangeDelay-time.Second), one.ID)), true},
		{"nothing", set, false},
	} {
		if got := tt.next.ChangesThePast(set, now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if set.ChangesThePast(nil, now) {
		t.Error("the first set changes the past")
	}
}
