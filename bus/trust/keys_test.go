package trust_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// publicKey returns a key without a private half: generating one takes long.
func publicKey(t testing.TB) token.Key {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2047))
	if err != nil {
		t.Fatal(err)
	}
	public := &rsa.PublicKey{N: n.SetBit(n.SetBit(n, 2047, 1), 0, 1), E: 65537}
	return token.Key{ID: token.Thumbprint(public), Public: public}
}

func TestKeysReachVerifiers(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		conn := e.Connect(t)
		watch := ledgertest.WatchKeys(t, e.Connect(t), time.Hour, new(trust.Epoch))
		if err := watch.Ready(ctx); !errors.Is(err, token.ErrNoKeys) {
			t.Fatalf("ready without keys: %v", err)
		}

		first, second := publicKey(t), publicKey(t)
		// from the server's time of the rotation to when the second key takes over
		var lead time.Duration
		change := func(do func(*token.KeySet, time.Time) (*token.KeySet, error)) *token.KeySet {
			t.Helper()
			_, set, err := bustest.Authority(conn).ChangeKeys(ctx, do)
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
		change(func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if set != nil {
				t.Error("there is a set already")
			}
			return token.FirstSet(first, now)
		})
		wait.Until(t, "the first key arrives", func() bool { return watch.Ready(ctx) == nil })
		change(func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(second, now) })
		set := change(func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			next, err := set.Rotate(now)
			if err == nil {
				k, _ := next.Lookup(second.ID)
				lead = k.ActiveFrom.Sub(now)
			}
			return next, err
		})
		if lead > token.RotationLead || lead < token.RotationLead-time.Second {
			t.Errorf("the second key takes over after %v, want %v", lead, token.RotationLead)
		}
		unchanged := change(func(set *token.KeySet, _ time.Time) (*token.KeySet, error) { return set, nil })
		if !bytes.Equal(unchanged.JWKS(), set.JWKS()) {
			t.Error("the set is not what was stored")
		}
		wait.Until(t, "the rotation arrives", func() bool {
			got, _, err := watch.KeySet()
			return err == nil && bytes.Equal(got.JWKS(), set.JWKS())
		})
	})
}

// Concurrent changes of the set build on each other.
func TestChangesOfTheKeySetDoNotGetLost(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := bustest.Authority(e.Connect(t)).ChangeKeys(ctx,
			func(_ *token.KeySet, now time.Time) (*token.KeySet, error) {
				return token.FirstSet(publicKey(t), now)
			}); err != nil {
			t.Fatal(err)
		}
		const writers = 8
		var group sync.WaitGroup
		start := make(chan struct{})
		for range writers {
			conn, key := e.Connect(t), publicKey(t)
			group.Go(func() {
				<-start
				if _, _, err := bustest.Authority(conn).ChangeKeys(ctx,
					func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
						return set.Adopt(key, now)
					}); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		group.Wait()
		_, set, err := bustest.Authority(e.Connect(t)).ChangeKeys(ctx,
			func(set *token.KeySet, _ time.Time) (*token.KeySet, error) { return set, nil })
		if err != nil || len(set.Keys()) != writers+1 {
			t.Errorf("%d keys, want %d: %v", len(set.Keys()), writers+1, err)
		}
	})
}

// A watch that hears nothing says so before its set can be wrong, and recovers by itself.
func TestKeyWatchKnowsWhenItIsLost(t *testing.T) { bustest.Virtual(t, testKeyWatchKnowsWhenItIsLost) }

func testKeyWatchKnowsWhenItIsLost(t *testing.T, e *bustest.Env) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := e.Connect(t)
	watch := ledgertest.WatchKeys(t, e.Connect(t), time.Hour, new(trust.Epoch))
	if _, _, err := bustest.Authority(conn).ChangeKeys(ctx, func(_ *token.KeySet, now time.Time) (*token.KeySet,
		error) {
		return token.FirstSet(publicKey(t), now)
	}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the key arrives", func() bool { return watch.Ready(ctx) == nil })
	js := conn.JetStream()
	s, err := js.Stream(ctx, "KV_"+bus.KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	if err := js.DeleteStream(ctx, config.Name); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "it is not ready", func() bool { return errors.Is(watch.Ready(ctx), trust.ErrKeysLost) })
	wait.Until(t, "nothing is verified any more", func() bool {
		_, _, err := watch.KeySet()
		return errors.Is(err, trust.ErrKeysLost)
	})
	if _, err := js.CreateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	second := publicKey(t)
	if _, _, err := bustest.Authority(conn).ChangeKeys(ctx, func(_ *token.KeySet, now time.Time) (*token.KeySet,
		error) {
		return token.FirstSet(second, now)
	}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "it has the new set", func() bool {
		set, _, err := watch.KeySet()
		if err != nil {
			return false
		}
		_, ok := set.Lookup(second.ID)
		return ok && watch.Ready(ctx) == nil
	})
}

func TestAuthService(t *testing.T) {
	e := bustest.Run(t)
	conn, client := e.Connect(t), e.Connect(t).NATS()
	key := publicKey(t)
	set, err := token.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	var present *token.KeySet
	stop, err := trust.ServeAuth(conn, "1.0.0", func() *token.KeySet { return present }, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	m, err := client.Request("auth.public-key", nil, 5*time.Second)
	if err != nil || m.Header.Get("Nats-Service-Error-Code") != "503" {
		t.Errorf("without keys it answers %v %v", m, err)
	}
	present = set
	for subject, want := range map[string][]byte{"auth.public-key": token.PublicPEM(key.Public),
		"auth.jwks": set.JWKS()} {
		m, err := client.Request(subject, nil, 5*time.Second)
		if err != nil || !bytes.Equal(m.Data, want) {
			t.Errorf("%s: %v\n%s", subject, err, m.Data)
		}
	}
	if m, err := client.Request("$SRV.INFO.auth", nil, 5*time.Second); err != nil ||
		!bytes.Contains(m.Data, []byte(`"queue_group":"q"`)) {
		t.Errorf("the service does not present itself in a queue group: %v", err)
	}

	if ok, err := trust.AuthAnswers(t.Context(), conn); err != nil || !ok {
		t.Errorf("somebody answers: %v %v", ok, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if ok, err := trust.AuthAnswers(t.Context(), conn); err != nil || ok {
		t.Errorf("nobody answers: %v %v", ok, err)
	}

	// A token whose kid is not in the set makes the watch ask the bucket's leader, once an
	// interval. Authsvc need not be there.
	watch := trust.NewKeyWatch(conn, bustest.Anchor(), time.Hour, new(trust.Epoch))
	if watch.Refresh(t.Context()) {
		t.Error("there is a set before there is one")
	}
	if _, _, err := bustest.Authority(conn).ChangeKeys(t.Context(), func(_ *token.KeySet, now time.Time) (*token.KeySet,
		error) {
		return token.FirstSet(key, now)
	}); err != nil {
		t.Fatal(err)
	}
	if watch.Refresh(t.Context()) {
		t.Error("the keys were asked for twice in an interval")
	}
	watch = trust.NewKeyWatch(conn, bustest.Anchor(), time.Hour, new(trust.Epoch))
	watch.Refresh(t.Context())
	if _, _, err := watch.KeySet(); err != nil {
		t.Errorf("no keys after asking: %v", err)
	}
}

// A change that ran out of time may be retried, unlike one with a bad key.
func TestAChangeOfKeysThatTakesTooLong(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := bustest.Authority(conn).ChangeKeys(ctx, func(_ *token.KeySet, now time.Time) (*token.KeySet, error) {
		cancel() // as if its time were over by now
		return token.FirstSet(publicKey(t), now)
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("it says %v, want kind Unavailable", err)
	}
}
