package keys_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// An instance is one instance of authsvc, as far as keys are concerned.
type instance struct {
	dir    string
	conn   *bus.Conn
	watch  *trust.KeyWatch
	ring   *keys.Ring
	signer *keys.Signer
	config keys.RotatorConfig
}

// updateOn returns what changes the key set over a connection.
func updateOn(conn *bus.Conn) keys.UpdateSet {
	return func(ctx context.Context, change func(*token.KeySet, time.Time) (*token.KeySet, error)) (was,
		is *token.KeySet, err error) {
		return bustest.Authority(conn).ChangeKeys(ctx, change)
	}
}

// newInstance returns an instance with its keys in a folder.
func newInstance(t *testing.T, e *bustest.Env, dir string) *instance {
	t.Helper()
	conn := e.Connect(t)
	k := &instance{dir: dir, conn: conn,
		watch: trust.NewKeyWatch(conn, bustest.Anchor(), time.Second, new(trust.Epoch)), ring: keys.NewRing(filepath.Join(dir, "private.key"), 2048)}
	bustest.Running(t, k.watch.Run)
	k.signer = keys.NewSigner(k.ring, k.watch, token.IssuerConfig{Life: time.Minute})
	k.config = keys.RotatorConfig{Ring: k.ring, Watch: k.watch, Update: updateOn(conn), LedgerAge: conn.LedgerAge,
		Elsewhere: func(ctx context.Context) (bool, error) { return trust.AuthAnswers(ctx, conn) }}
	return k
}

func (k *instance) rotator(t *testing.T) *keys.Rotator {
	t.Helper()
	rotator, err := keys.NewRotator(k.config)
	if err != nil {
		t.Fatal(err)
	}
	return rotator
}

// start prepares the instance and runs it.
func (k *instance) start(t *testing.T) {
	t.Helper()
	rotator := k.rotator(t)
	if err := rotator.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, rotator.Run)
	k.ready(t)
}

func (k *instance) ready(t *testing.T) {
	t.Helper()
	wait.Until(t, "the instance can sign", func() bool { return k.signer.Ready() == nil })
}

// set returns the set that the instance has now.
func (k *instance) set(t *testing.T) *token.KeySet {
	t.Helper()
	set, _, err := k.watch.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// signs returns the id of the key that signs now. Its token must verify.
func (k *instance) signs(t *testing.T) string {
	t.Helper()
	raw, c := k.issue(t)
	v, err := token.NewVerifier(token.Config{Keys: k.watch})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("the token is refused: %v", err)
	}
	return c.KeyID
}

// issue returns a token and its claims.
func (k *instance) issue(t *testing.T) (string, token.Claims) {
	t.Helper()
	raw, c, err := k.signer.Issue(token.Grant{Subject: "ullaullaullaullaullaullaul", Email: "ulla@example.com",
		Role: token.User})
	if err != nil {
		t.Fatal(err)
	}
	return raw, c
}

func (k *instance) change(t *testing.T, change func(*token.KeySet, time.Time) (*token.KeySet, error)) {
	t.Helper()
	if _, _, err := bustest.Authority(k.conn).ChangeKeys(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// Two instances share the keys. Whichever is first makes the next key, and both switch to it at
// the same moment.
func TestInstancesRotateTogether(t *testing.T) {
	t.Parallel() // most of it is waiting
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		dir := t.TempDir()
		a, b := newInstance(t, e, dir), newInstance(t, e, dir)
		a.start(t)
		b.start(t)
		first := a.signs(t)
		if other := b.signs(t); other != first {
			t.Fatalf("two instances sign with two keys: %s and %s", first, other)
		}
		wait.Until(t, "there is a next key", func() bool { return a.set(t).HasNext() && b.set(t).HasNext() })
		a.change(t, (*token.KeySet).Rotate)
		wait.Until(t, "another next key is made",
			func() bool { return len(a.set(t).Keys()) == 3 && a.set(t).HasNext() })
		var second string
		var group sync.WaitGroup
		for _, k := range []*instance{a, b} {
			group.Go(func() {
				wait.Until(t, "the second key takes over", func() bool { return k.signs(t) != first })
			})
		}
		group.Wait()
		second = a.signs(t)
		if other := b.signs(t); other != second {
			t.Errorf("two instances sign with two keys: %s and %s", second, other)
		}
		if k, _ := a.set(t).Lookup(first); k.Stage(time.Now()) != token.Retired {
			t.Errorf("the first key is %s", k.Stage(time.Now()))
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %o", f, info.Mode().Perm())
			}
		}

		// An instance that starts now finds its keys.
		c := newInstance(t, e, dir)
		c.start(t)
		if got := c.signs(t); got != second {
			t.Errorf("a new instance signs with %s, want %s", got, second)
		}
	})
}

// If the active and the next key are both compromised, a running instance makes a new one at
// once.
func TestAllKeysAreCompromised(t *testing.T) {
	e := bustest.Run(t)
	k := newInstance(t, e, t.TempDir())
	k.start(t)
	wait.Until(t, "there is a next key", func() bool { return k.set(t).HasNext() })
	bad := k.set(t).Keys()
	k.change(t, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		return set.Retire(now, now, bad[0].ID, bad[1].ID)
	})
	wait.Until(t, "a key that is not compromised signs", func() bool {
		if k.signer.Ready() != nil {
			return false
		}
		_, c := k.issue(t) // which is refused, if it was signed a moment before
		return c.KeyID != bad[0].ID && c.KeyID != bad[1].ID
	})
	k.signs(t)
	wait.Until(t, "the private half of a key that the ring has made is gone", func() bool {
		_, err := os.Stat(filepath.Join(k.dir, bad[1].ID+".key"))
		return errors.Is(err, os.ErrNotExist)
	})
}

// The active key is replaced at its maximum age.
func TestKeysAreRotatedByAge(t *testing.T) {
	e := bustest.Run(t)
	k := newInstance(t, e, t.TempDir())
	k.config.MaxAge = 30 * 24 * time.Hour
	k.start(t)
	first := k.signs(t)
	wait.Until(t, "there is a next key", func() bool { return k.set(t).HasNext() })
	later := *k
	later.config.Now = func() time.Time { return time.Now().Add(31 * 24 * time.Hour) }
	later.config.Update = func(ctx context.Context, change func(*token.KeySet, time.Time) (*token.KeySet, error)) (was,
		is *token.KeySet, err error) {
		return bustest.Authority(k.conn).ChangeKeys(ctx,
			func(set *token.KeySet, _ time.Time) (*token.KeySet, error) { return change(set, later.config.Now()) })
	}
	rotator := later.rotator(t)
	if err := rotator.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, rotator.Run)
	wait.Until(t, "the old key has an end", func() bool {
		key, _ := k.set(t).Lookup(first)
		return !key.RetiredAt.IsZero()
	})
}

// TestKeysAtStart covers what an instance may find when it starts.
func TestKeysAtStart(t *testing.T) {
	e := bustest.Run(t)
	dir := t.TempDir()
	a := newInstance(t, e, dir)
	a.start(t)
	first := a.signs(t)

	t.Run("another instance, with a folder of its own", func(t *testing.T) {
		stop, err := trust.ServeAuth(a.conn, "1.0.0", func() *token.KeySet { return a.set(t) }, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.conn.NATS().Flush(); err != nil {
			t.Fatal(err)
		}
		b := newInstance(t, e, t.TempDir())
		if err := b.rotator(t).Prepare(t.Context()); !errors.Is(err, keys.ErrElsewhere) ||
			fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Prepare = %v, want ErrElsewhere", err)
		}
		if _, _, err := b.signer.Issue(token.Grant{}); !errors.Is(err, keys.ErrNotHere) &&
			!errors.Is(err, keys.ErrNoSigningKey) {
			t.Errorf("it signs: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := a.signs(t); got != first {
			t.Errorf("the first instance signs with %s by now", got)
		}
	})
	t.Run("the key file is lost", func(t *testing.T) {
		b := newInstance(t, e, t.TempDir())
		b.start(t)
		wait.Until(t, "the new key signs", func() bool { return b.signs(t) != first })
		if k, ok := b.set(t).Lookup(first); !ok || k.RetiredAt.IsZero() {
			t.Error("the old key is gone, and with it every event")
		}
	})
	for _, tt := range []struct {
		name   string
		change func(*keys.RotatorConfig)
		want   *fault.Error
	}{
		{"keys would be forgotten before their events", func(c *keys.RotatorConfig) { c.Retention = time.Hour - 1 }, keys.ErrRetention},
		{"keys would be replaced too often", func(c *keys.RotatorConfig) { c.MaxAge = time.Minute }, keys.ErrAge},
	} {
		b := newInstance(t, e, dir)
		tt.change(&b.config)
		if err := b.rotator(t).Prepare(t.Context()); !errors.Is(err, tt.want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
