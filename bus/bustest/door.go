package bustest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A Door lets people with tokens in to a closed Env, as an instance of authsvc does.
type Door struct {
	Revoked *trust.RevocationWatch
	stop    func()
}

// fixed are keys that never change.
type fixed struct{ token.Keys }

func (fixed) Changed() <-chan struct{} { return nil }

// Door opens another door, for those whose tokens auth has signed. It is closed after the test, or by Close.
func (e *Env) Door(t testing.TB, auth *tokentest.Authority) *Door {
	t.Helper()
	return e.DoorWith(t, fixed{auth.Keys()})
}

// DoorWith is Door for those whose tokens are verified by keys, and with other settings.
func (e *Env) DoorWith(t testing.TB, keys callout.Keys, change ...func(*callout.Config)) *Door {
	t.Helper()
	secret, err := access.LoadCalloutSecret(e.Keys)
	if err != nil {
		t.Fatalf("open a door: %v", err)
	}
	key, err := access.LoadCalloutKey(access.KeyFile(e.Keys, access.Callout))
	if err != nil {
		t.Fatalf("open a door: %v", err)
	}
	revoked := trust.NewRevocationWatch(e.ConnectAs(t, access.Authsvc), new(trust.Epoch))
	verifier, err := token.NewVerifier(token.Config{Keys: keys, Revocations: revoked})
	if err != nil {
		t.Fatalf("open a door: %v", err)
	}
	config := callout.Config{
		Conn: e.ConnectWith(t, bus.Config{Key: key, Inbox: access.Callout}), Secret: secret,
		Verifier: verifier, Keys: keys, Revocations: revoked, Watch: revoked,
	}
	for _, c := range change {
		c(&config)
	}
	door, err := callout.New(config)
	if err != nil {
		t.Fatalf("open a door: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{revoked.Run, door.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("a door: %v", err)
			}
		})
	}
	d := &Door{Revoked: revoked, stop: sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})}
	t.Cleanup(d.Close)
	deadline := time.After(wait.Patience)
	for revoked.Ready(t.Context()) != nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("open a door: the revocations are not there")
		}
	}
	return d
}

// Close ends the instance.
func (d *Door) Close() { d.stop() }

// Enter connects with a token as people do, to another server at each call in a cluster.
func (e *Env) Enter(raw string, options ...nats.Option) (*nats.Conn, error) {
	options = append([]nats.Option{nats.Token(raw), nats.Timeout(5 * time.Second), nats.NoReconnect()}, options...)
	if e.CA != "" {
		options = append(options, nats.RootCAs(e.CA))
	}
	return nats.Connect(e.URL(), options...)
}

// MustEnter is Enter with a token that is good. A server waits for two seconds to be told who somebody is; on a slow machine that
// may be too short, and then it is tried again, as clients do. The connection is closed after the test.
func (e *Env) MustEnter(t testing.TB, raw string, options ...nats.Option) (nc *nats.Conn) {
	t.Helper()
	wait.Until(t, "a good token is let in", func() (in bool) {
		var err error
		if nc, err = e.Enter(raw, options...); err != nil {
			t.Logf("connect with a good token: %v", err)
		}
		return err == nil
	})
	t.Cleanup(nc.Close)
	return nc
}
