package bus_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"pillion/booking"
	"pillion/bus"
	"pillion/bus/bustest"
	"pillion/token"
)

func watchKeys(t testing.TB, c *bus.Conn, interval time.Duration) *bus.KeyWatch {
	t.Helper()
	w := c.KeyWatch(interval)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("key watch: %v", err)
		}
	})
	return w
}

func publicKey(t testing.TB) token.Key {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return token.Key{ID: token.Thumbprint(&k.PublicKey), Public: &k.PublicKey}
}

func TestKeysReachVerifiers(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		conn := e.Connect(t)
		watch := watchKeys(t, e.Connect(t), time.Hour)
		if err := watch.Ready(ctx); !errors.Is(err, token.ErrNoKeys) {
			t.Fatalf("ready without keys: %v", err)
		}

		first, second := publicKey(t), publicKey(t)
		if _, err := conn.AdoptKey(ctx, first, time.Now()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first key arrives", func() bool { return watch.Ready(ctx) == nil })

		retired := time.Now()
		set, err := conn.AdoptKey(ctx, second, retired)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := conn.AdoptKey(ctx, second, time.Now()); err != nil || !bytes.Equal(again.JWKS(), set.JWKS()) {
			t.Errorf("adopting a key again changed the set: %v", err)
		}
		eventually(t, "the second key arrives", func() bool {
			set, _, err := watch.KeySet()
			if err != nil {
				return false
			}
			active, ok := set.Active()
			return ok && active.ID == second.ID
		})
		got, _, err := watch.KeySet()
		if err != nil {
			t.Fatal(err)
		}
		old, ok := got.Lookup(first.ID)
		if !ok || old.RetiredAt.Unix() != retired.Unix() {
			t.Errorf("the first key is not kept as retired: %v %v", ok, old.RetiredAt)
		}
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
	stop, err := bus.ServeAuth(conn, "1.0.0", func() *token.KeySet { return present })
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
	for subject, want := range map[string][]byte{"auth.public-key": token.PublicPEM(key.Public), "auth.jwks": set.JWKS()} {
		m, err := client.Request(subject, nil, 5*time.Second)
		if err != nil || !bytes.Equal(m.Data, want) {
			t.Errorf("%s: %v\n%s", subject, err, m.Data)
		}
	}
	if m, err := client.Request("$SRV.INFO.auth", nil, 5*time.Second); err != nil || !bytes.Contains(m.Data, []byte(`"queue_group":"q"`)) {
		t.Errorf("the service does not present itself in a queue group: %v", err)
	}

	// A token whose kid is not in the set makes the watch ask this service.
	watch := conn.KeyWatch(time.Hour)
	if !watch.Refresh(t.Context()) {
		t.Error("the keys could not be asked for")
	}
	if _, _, err := watch.KeySet(); err != nil {
		t.Errorf("no keys after asking: %v", err)
	}
	if watch.Refresh(t.Context()) {
		t.Error("the keys were asked for twice in an interval")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	// Without authsvc the bucket answers.
	if _, err := conn.AdoptKey(t.Context(), key, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !conn.KeyWatch(time.Hour).Refresh(t.Context()) {
		t.Error("with authsvc away the keys in the bucket were not found")
	}
}

func TestBucket(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		b, other := e.Connect(t).Bucket(bus.AccountsBucket), e.Connect(t).Bucket(bus.AccountsBucket)
		key := booking.NewID()
		if _, _, err := b.Get(ctx, key); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of nothing: %v", err)
		}
		r1, err := b.Create(ctx, key, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Create(ctx, key, []byte("two")); !errors.Is(err, bus.ErrKeyExists) {
			t.Errorf("create over something: %v", err)
		}
		if v, r, err := other.Get(ctx, key); err != nil || string(v) != "one" || r != r1 {
			t.Errorf("get: %q %d %v", v, r, err)
		}
		r2, err := other.Update(ctx, key, []byte("two"), r1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Update(ctx, key, []byte("three"), r1); !errors.Is(err, bus.ErrStale) {
			t.Errorf("update over another revision: %v", err)
		}
		if v, r, err := b.Get(ctx, key); err != nil || string(v) != "two" || r != r2 {
			t.Errorf("get: %q %d %v", v, r, err)
		}
		kv, err := e.Connect(t).JetStream().KeyValue(ctx, bus.AccountsBucket)
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Get(ctx, key); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of something deleted: %v", err)
		}
		if _, err := b.Create(ctx, key, []byte("four")); err != nil {
			t.Errorf("create after a delete: %v", err)
		}
	})
}
