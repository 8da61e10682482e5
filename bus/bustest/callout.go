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

// A Callout authenticates clients with tokens for a closed Env, like an instance of authsvc.
type Callout struct {
	Revoked *trust.RevocationWatch
	stop    func()
}

// fixedKeys never change.
type fixedKeys struct{ token.Keys }

func (fixedKeys) Changed() <-chan struct{} { return nil }

// RunCallout starts an instance for tokens that auth has signed. It runs until the end of the test,
// or until [Callout.Close].
func (e *Env) RunCallout(t testing.TB, auth *tokentest.Authority) *Callout {
	t.Helper()
	return e.RunCalloutWith(t, fixedKeys{auth.Keys()})
}

// RunCalloutWith is [Env.RunCallout] with other keys and settings.
func (e *Env) RunCalloutWith(t testing.TB, keys callout.Keys, change ...func(*callout.Config)) *Callout {
	t.Helper()
	secret, err := access.LoadCalloutSecret(e.Keys)
	if err != nil {
		t.Fatalf("run the callout: %v", err)
	}
	key, err := access.LoadCalloutKey(access.KeyFile(e.Keys, access.Callout))
	if err != nil {
		t.Fatalf("run the callout: %v", err)
	}
	revoked := trust.NewRevocationWatch(e.ConnectAs(t, access.Authsvc), Anchor(), new(trust.Epoch))
	verifier, err := token.NewVerifier(token.Config{Keys: keys, Revocations: revoked})
	if err != nil {
		t.Fatalf("run the callout: %v", err)
	}
	config := callout.Config{
		Conn: e.ConnectWith(t, bus.Config{Key: key, Inbox: access.Callout}), Secret: secret,
		Verifier: verifier, Keys: keys, Revocations: revoked, Watch: revoked,
		PerAccount: 1 << 20, // tests connect one account more often than an app does
	}
	for _, c := range change {
		c(&config)
	}
	instance, err := callout.New(config)
	if err != nil {
		t.Fatalf("run the callout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{revoked.Run, instance.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("the callout: %v", err)
			}
		})
	}
	d := &Callout{Revoked: revoked, stop: sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})}
	t.Cleanup(d.Close)
	wait.Until(t, "the revocations are loaded", func() bool { return revoked.Ready(t.Context()) == nil })
	return d
}

// Close ends the instance.
func (d *Callout) Close() { d.stop() }

// ConnectWithToken connects like a client with an access token. In a cluster, each call connects to
// the next server. The caller closes the connection.
func (e *Env) ConnectWithToken(raw string, options ...nats.Option) (*nats.Conn, error) {
	options = append([]nats.Option{nats.Token(raw), nats.Timeout(5 * time.Second), nats.NoReconnect()}, options...)
	if e.CA != "" {
		options = append(options, nats.RootCAs(e.CA))
	}
	return nats.Connect(e.URL(), options...)
}

// MustConnectWithToken is [Env.ConnectWithToken] with a valid token. It retries like clients do,
// because a server waits only briefly for the callout, which may be too short on a slow machine.
// The test's cleanup closes the connection.
func (e *Env) MustConnectWithToken(t testing.TB, raw string, options ...nats.Option) (nc *nats.Conn) {
	t.Helper()
	wait.Until(t, "a valid token is accepted", func() (ok bool) {
		var err error
		if nc, err = e.ConnectWithToken(raw, options...); err != nil {
			t.Logf("connect with a valid token: %v", err)
		}
		return err == nil
	})
	t.Cleanup(nc.Close)
	return nc
}
