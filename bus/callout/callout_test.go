package callout_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// withCallout runs test on one and on three servers with access control and an instance of the
// callout.
func withCallout(
	t *testing.T, test func(t *testing.T, e *bustest.Env, auth *tokentest.Authority, instance *bustest.Callout),
) {
	t.Helper()
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		auth := tokentest.New(t)
		test(t, e, auth, e.RunCallout(t, auth))
	})
}

// A login is a token with its session and account.
type login struct{ id, session, raw string }

func issue(t *testing.T, auth *tokentest.Authority, role token.Role, life time.Duration) login {
	t.Helper()
	l := login{id: booking.NewID(), session: booking.NewID()}
	raw, _, err := auth.Issuer(life).Issue(token.Grant{Subject: l.id, Email: "somebody@example.com", Role: role,
		Session: l.session})
	if err != nil {
		t.Fatal(err)
	}
	l.raw = raw
	return l
}

// enter connects with a token. It also returns a channel that is closed with the connection.
func enter(t *testing.T, e *bustest.Env, raw string) (*nats.Conn, <-chan struct{}) {
	t.Helper()
	over := make(chan struct{})
	nc := e.MustConnectWithToken(t, raw)
	nc.SetClosedHandler(func(*nats.Conn) { close(over) })
	return nc, over
}

// Users and riders can subscribe to the feed of their own bookings.
func TestOwnFeed(t *testing.T) {
	withCallout(t, func(t *testing.T, e *bustest.Env, auth *tokentest.Authority, _ *bustest.Callout) {
		publisher := e.ConnectAs(t, access.Usersvc).NATS()
		for role, feed := range map[token.Role]string{token.User: "feed.user.", token.Rider: "feed.rider."} {
			who := issue(t, auth, role, time.Minute)
			nc, _ := enter(t, e, who.raw)
			sub, err := nc.SubscribeSync(feed + who.id + ".>")
			if err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			subject := feed + who.id + ".b.1.requested"
			// A subscription takes a moment to reach the other servers.
			wait.Until(t, "a "+string(role)+" receives the feed of their own booking", func() bool {
				if err := publisher.Publish(subject, []byte("{}")); err != nil {
					t.Fatal(err)
				}
				m, err := sub.NextMsg(100 * time.Millisecond)
				if err == nil && m.Subject != subject {
					t.Errorf("a %s got %s", role, m.Subject)
				}
				return err == nil
			})
		}
	})
}

// Clients with invalid tokens are rejected, whatever is wrong with the token.
func TestBadTokens(t *testing.T) {
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	e.RunCallout(t, auth)
	refused := func(what, raw string) {
		t.Helper()
		options := []nats.Option{nats.Timeout(5 * time.Second)}
		if raw != "" {
			options = append(options, nats.Token(raw))
		}
		nc, err := nats.Connect(e.URL(), options...)
		if err == nil {
			nc.Close()
			t.Errorf("accepted %s", what)
		} else if !errors.Is(err, nats.ErrAuthorization) && len(raw) < 4<<10 {
			// NATS itself rejects longer ones
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, f := range auth.Forgeries() {
		if i%5 == 0 || wait.Long() { // the tests of package token try all of them
			refused(f.Name, f.Token)
		}
	}
	now := time.Now()
	good := func(role, sub string, exp time.Time) string {
		return auth.Raw(auth.Private, auth.Header(), auth.Claims(role, sub, "somebody@example.com", now, exp))
	}
	for what, raw := range map[string]string{
		"nothing":                 "",
		"a wildcard in sub":       good("user", "aaaaaaaaaaaaaaaaaaaaaaaa.>", now.Add(time.Minute)),
		"a star for sub":          good("user", "*", now.Add(time.Minute)),
		"a full wildcard for sub": good("raider", ">", now.Add(time.Minute)),
		"an expired token": auth.Raw(auth.Private, auth.Header(),
			auth.Claims("user", tokentest.Ulla, "u@example.com", now.Add(-time.Hour), now.Add(-time.Minute))),
		"another key": auth.Raw(auth.Other, auth.Header(),
			auth.Claims("user", tokentest.Ulla, "u@example.com", now, now.Add(time.Minute))),
		"a service's token": auth.Token(token.Service, token.ServiceID("usersvc"), ""),
		"an event token":    auth.Proof(token.User, tokentest.Ulla),
	} {
		refused(what, raw)
	}
	// The checks above would also pass if the callout rejected everybody.
	enter(t, e, auth.Token(token.User, tokentest.Ulla, "u@example.com"))
	// The largest token that authsvc issues fits into the first line of a connection.
	claims := auth.Claims("user", tokentest.Ulla, "u@example.com", now, now.Add(time.Minute))
	large := auth.Raw(auth.Private, auth.Header(),
		strings.TrimSuffix(claims, "}")+`,"x":"`+strings.Repeat("x", 2300)+`"}`)
	if len(large) < 3700 {
		t.Errorf("the large token has only %d bytes", len(large))
	}
	enter(t, e, large)
}

// A revocation closes the connections of its tokens on all servers, whichever instance accepted
// them, and the clients cannot reconnect.
func TestRevocation(t *testing.T) {
	withCallout(t, func(t *testing.T, e *bustest.Env, auth *tokentest.Authority, instance *bustest.Callout) {
		stolen, other, everywhere := issue(t, auth, token.User, time.Minute), issue(t, auth, token.Rider, time.Minute),
			issue(t, auth, token.Rider, time.Minute)
		_, first := enter(t, e, stolen.raw)
		_, second := enter(t, e, stolen.raw)
		innocent, _ := enter(t, e, other.raw)
		_, third := enter(t, e, everywhere.raw)
		// Another instance, which has accepted no connection, takes over.
		e.RunCallout(t, auth)
		instance.Close()

		revoker := e.ConnectAs(t, access.Authsvc)
		for _, c := range []struct {
			what string
			r    token.Revocation
			over []<-chan struct{}
		}{
			{"a session", token.Revocation{Session: stolen.session, At: time.Now()}, []<-chan struct{}{first, second}},
			{"an account", token.Revocation{Subject: everywhere.id, NotBefore: time.Now().Add(time.Second), At: time.Now()}, []<-chan struct{}{third}},
		} {
			if err := bustest.Authority(revoker).Revoke(t.Context(), c.r); err != nil {
				t.Fatal(err)
			}
			for _, over := range c.over {
				select {
				case <-over:
				case <-time.After(wait.Patience):
					t.Fatalf("%s was revoked, but its client is still connected", c.what)
				}
			}
		}
		if nc, err := e.ConnectWithToken(stolen.raw); err == nil {
			nc.Close()
			t.Error("accepted a revoked token")
		}
		if !innocent.IsConnected() {
			t.Error("closed the connection of another session")
		}
	})
}

// A sweep checks all pages of a server's connections, although connections that it closes shift the
// pages.
func TestRevocationOfManyConnections(t *testing.T) {
	t.Parallel() // most of it is waiting
	const pages, many = 2, 60
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		auth := tokentest.New(t)
		keys := &keyRing{set: auth.KeySet(), changed: make(chan struct{})}
		e.RunCalloutWith(t, keys, func(c *callout.Config) { c.Page = pages })
		stolen, other := issue(t, auth, token.User, time.Hour), issue(t, auth, token.User, time.Hour)
		var over []<-chan struct{}
		var innocent []*nats.Conn
		for range many {
			_, ended := enter(t, e, stolen.raw)
			over = append(over, ended)
			nc, _ := enter(t, e, other.raw)
			innocent = append(innocent, nc)
		}
		if err := bustest.Authority(e.ConnectAs(t, access.Authsvc)).Revoke(t.Context(),
			token.Revocation{Session: stolen.session, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		for i, over := range over {
			select {
			case <-over:
			case <-time.After(wait.Patience):
				t.Fatalf("of %d connections of a revoked session, number %d is still open", many, i)
			}
		}
		for _, nc := range innocent {
			if !nc.IsConnected() {
				t.Fatal("closed the connection of another session")
			}
		}
	})
}

// A watchful verifier counts verifications after the end.
type watchful struct {
	callout.Verifier
	closed atomic.Bool
	late   atomic.Int32
}

func (v *watchful) Verify(ctx context.Context, raw string) (token.Claims, error) {
	if v.closed.Load() {
		v.late.Add(1)
	}
	return v.Verifier.Verify(ctx, raw)
}

// An instance that stops while many clients connect answers no request after its end. Another
// instance accepts the clients.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	raw := issue(t, auth, token.User, time.Hour).raw
	e.RunCallout(t, auth) // another instance, which continues
	for range 3 {
		v := &watchful{}
		instance := e.RunCalloutWith(t, &keyRing{set: auth.KeySet()},
			func(c *callout.Config) { v.Verifier, c.Verifier = c.Verifier, v })
		var connecting sync.WaitGroup
		for range 40 {
			connecting.Go(func() {
				for t.Context().Err() == nil { // a slow machine may exceed the server's timeout
					if nc, err := e.ConnectWithToken(raw); err == nil {
						nc.Close()
						return
					}
				}
			})
		}
		instance.Close()
		v.closed.Store(true)
		connecting.Wait()
		if n := v.late.Load(); n > 0 {
			t.Errorf("%d tokens were verified after the end", n)
		}
	}
}

// A keyRing is a key set that changes.
type keyRing struct {
	mu      sync.Mutex
	set     *token.KeySet
	changed chan struct{}
}

func (r *keyRing) KeySet() (*token.KeySet, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set, time.Now(), nil
}

func (r *keyRing) Refresh(context.Context) bool { return false }

func (r *keyRing) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *keyRing) change(set *token.KeySet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = set
	close(r.changed)
	r.changed = make(chan struct{})
}

// A compromised key closes the connections of its tokens. A retired key does not.
func TestCompromisedKey(t *testing.T) {
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	keys := &keyRing{set: auth.KeySet(), changed: make(chan struct{})}
	e.RunCalloutWith(t, keys)
	nc, over := enter(t, e, auth.Token(token.User, tokentest.Ulla, "ulla@example.com"))
	key := auth.KeySet().Keys()[0]

	key.RetiredAt = time.Now().Add(time.Minute).Truncate(time.Second)
	retired, err := token.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	keys.change(retired)
	key.CompromisedAt, key.RetiredAt = time.Now().Truncate(time.Second), time.Now().Truncate(time.Second)
	compromised, err := token.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatalf("the connection after the key was retired: %v", err)
	}
	keys.change(compromised)
	select {
	case <-over:
	case <-time.After(wait.Patience):
		t.Error("still connected")
	}
}

// A connection ends when its token expires.
func TestExpiry(t *testing.T) {
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	e.RunCallout(t, auth)
	const life = 3 * time.Second
	began := time.Now()
	_, over := enter(t, e, issue(t, auth, token.User, life).raw)
	select {
	case <-over:
		if took := time.Since(began); took < life-2*time.Second {
			t.Errorf("the connection ended after %v", took)
		}
	case <-time.After(wait.Patience):
		t.Error("still connected")
	}
}

// Without authsvc, existing connections stay, and new clients are rejected promptly.
func TestWithoutAuthsvc(t *testing.T) {
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	instance := e.RunCallout(t, auth)
	who := issue(t, auth, token.User, time.Minute)
	nc, _ := enter(t, e, who.raw)
	instance.Close()
	late, err := e.ConnectWithToken(issue(t, auth, token.User, time.Minute).raw, nats.Timeout(wait.Patience))
	if err == nil {
		late.Close()
		t.Error("accepted a client without authsvc")
	}
	if errors.Is(err, nats.ErrTimeout) {
		t.Errorf("the server did not answer: %v", err)
	}
	if err := nc.Flush(); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	// Pillion's own processes connect without authsvc.
	if err := e.ConnectAs(t, access.Usersvc).Ready(t.Context()); err != nil {
		t.Errorf("usersvc: %v", err)
	}
	e.RunCallout(t, auth)
	enter(t, e, who.raw)
}

// A connection reports that the servers do not know its key.
func TestUnknownKey(t *testing.T) {
	e, auth := bustest.RunClosed(t, false), tokentest.New(t)
	e.RunCallout(t, auth)
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(t.TempDir(), access.Usersvc))
	if err != nil {
		t.Fatal(err)
	}
	conn := e.ConnectWith(t, bus.Config{Key: key, Inbox: access.Usersvc})
	wait.Until(t, "the connection reports its rejection", func() bool {
		return errors.Is(conn.Ready(t.Context()),
			bus.ErrNotLetIn)
	})
}

// An account has a number of connections, and a network too. What has been closed counts no more
// after the next sweep. Others are not affected.
func TestTooManyConnections(t *testing.T) {
	const most = 3
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		auth := tokentest.New(t)
		keys := &keyRing{set: auth.KeySet(), changed: make(chan struct{})}
		for what, edit := range map[string]func(*callout.Config){
			"account": func(c *callout.Config) { c.PerAccount = most },
			"network": func(c *callout.Config) { c.PerNetwork = most },
			"proxy": func(c *callout.Config) {
				c.PerNetwork, c.TrustedProxies = most, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			},
		} {
			instance := e.RunCalloutWith(t, keys, edit)
			ulla := issue(t, auth, token.User, time.Hour)
			var open []*nats.Conn
			for range most {
				nc, _ := enter(t, e, ulla.raw)
				open = append(open, nc)
			}
			other := auth.Token(token.User, tokentest.Ulla, "ulla@example.com")
			for who, is := range map[string]struct {
				raw     string
				refused bool
			}{
				"the account": {ulla.raw, what != "proxy"},
				"another":     {other, what == "network"},
			} {
				if !is.refused {
					nc, _ := enter(t, e, is.raw)
					open = append(open, nc)
				} else if nc, err := e.ConnectWithToken(is.raw); err == nil {
					nc.Close()
					t.Errorf("%s: accepted one more connection of %s", what, who)
				}
			}
			for _, nc := range open {
				nc.Close()
			}
			wait.Until(t, what+": closed connections count no more", func() bool {
				nc, err := e.ConnectWithToken(ulla.raw)
				if err == nil {
					nc.Close()
				}
				return err == nil
			})
			instance.Close()
		}
	})
}
