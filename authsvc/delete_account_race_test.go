package authsvc_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A crowd collects all tokens that several clients of one account were given.
type crowd struct {
	mu    sync.Mutex
	given []tokens
}

func (c *crowd) take(o tokens) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given = append(c.given, o)
}

// last returns the tokens that were given last.
func (c *crowd) last() tokens {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.given[len(c.given)-1]
}

// TestDeletionRaces deletes accounts while clients log in, refresh and change the password. It
// uses two instances and the real stores, whose leaders step down on three replicas. No token
// that was ever given works afterwards.
func TestDeletionRaces(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	accounts := 2
	if wait.Long() {
		accounts = 6
	}
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, stop := context.WithCancel(t.Context())
		var background sync.WaitGroup
		defer func() { stop(); background.Wait() }()
		at := new(door)
		var instances []http.Handler
		var verifier *token.Verifier
		for range 2 {
			conn := e.Connect(t)
			watch := trust.NewRevocationWatch(conn, bustest.Anchor(), new(trust.Epoch))
			background.Go(func() { _ = watch.Run(ctx) })
			for watch.Ready(ctx) != nil && ctx.Err() == nil {
				runtime.Gosched()
			}
			many := func(l *throttle.Limits) {
				l.Address.Free, l.Account.Free, l.Refreshes.Free = 1_000_000, 1_000_000, 1_000_000
			}
			k := newKit(t, throttled(t, conn, time.Now, many),
				withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))),
				func(c *authsvc.Config, _ *authsvc.HasherConfig) {
					c.Sessions, c.Revoke = conn.Bucket(bus.SessionsBucket), bustest.Authority(conn).Revoke
					var err error
					if verifier, err = token.NewVerifier(token.Config{Keys: tokentest.New(t).Keys(),
						Revocations: watch}); err != nil {
						t.Fatal(err)
					}
					c.Verifier = verifier
				})
			instances = append(instances, k.handler)
		}
		at.set(instances...)
		ask := func(r *http.Request) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			at.ServeHTTP(w, r)
			return w
		}
		stepDowns := e.StepDowns(t, bus.BucketStream(bus.SessionsBucket), time.Second)

		var all crowd
		emails := make([]string, accounts)
		for i := range emails {
			emails[i] = fmt.Sprintf("kim%d@example.com", i)
			if w := ask(post("/register", body(emails[i], goodPassword, "user"))); w.Code != http.StatusCreated {
				t.Fatalf("register: %d %s", w.Code, w.Body)
			}
		}
		var answers sync.Map
		for i, email := range emails {
			var mine crowd
			done := make(chan struct{})
			going := func() bool {
				select {
				case <-done:
					return false
				default:
					return t.Context().Err() == nil
				}
			}
			note := func(what string, w *httptest.ResponseRecorder) {
				n, _ := answers.LoadOrStore(fmt.Sprintf("%s %d", what, w.Code), new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
			}
			login := func() {
				for _, password := range []string{goodPassword, newPassword} {
					w := ask(post("/login", body(email, password, "user")))
					note("login", w)
					if w.Code == http.StatusOK {
						mine.take(tokensOf(t, w))
						return
					}
				}
			}
			for len(mine.given) == 0 {
				login()
			}
			var others sync.WaitGroup
			others.Go(func() {
				for going() {
					login()
				}
			})
			others.Go(func() {
				for going() {
					w := ask(refreshWith(mine.last().Refresh))
					note("refresh", w)
					if w.Code == http.StatusOK {
						mine.take(tokensOf(t, w))
					}
				}
			})
			changed := make(chan struct{}, 3)
			// As many times as is waited for, and once more: each ends all sessions, that of
			// the deleting account too.
			others.Go(func() {
				for old, next, made := goodPassword, newPassword, 0; going() && made <= i%3; {
					w := ask(change(email, "user", old, next))
					note("password", w)
					if w.Code == http.StatusOK {
						changed <- struct{}{}
						old, next, made = next, old, made+1
					}
				}
			})
			for range i % 3 {
				<-changed
			}
			for gone := false; !gone; {
				for _, password := range []string{goodPassword, newPassword} {
					w := ask(deleting(mine.last().Token, password))
					note("delete", w)
					gone = gone || w.Code == http.StatusOK
				}
				if !gone { // all sessions were ended by a change of the password
					login()
				}
			}
			close(done)
			others.Wait()
			for _, password := range []string{goodPassword, newPassword} {
				wantRefused(t, ask(post("/login", body(email, password, "user"))))
			}
			for _, o := range mine.given {
				all.take(o)
			}
		}
		stepDowns() // what is left is looked up, and not raced for
		for _, o := range all.given {
			wait.Until(t, "a token of a deleted account is refused", func() bool {
				_, err := verifier.Verify(t.Context(), o.Token)
				why := token.Reason(err)
				return why == "revoked" || why == "expired"
			})
			var w *httptest.ResponseRecorder
			wait.Until(t, "a refresh token of a deleted account is answered", func() bool {
				w = ask(refreshWith(o.Refresh))
				return w.Code != http.StatusServiceUnavailable
			})
			if w.Code != http.StatusUnauthorized {
				t.Errorf("a refresh token of a deleted account: %d %s", w.Code, w.Body)
			}
		}
		if keys, err := e.Connect(t).Bucket(bus.AccountsBucket).Keys(t.Context()); err != nil || len(keys) != 0 {
			t.Errorf("%d accounts are left (%v)", len(keys), err)
		}
		answers.Range(func(what, n any) bool {
			t.Logf("%s: %d", what, n.(*atomic.Int64).Load())
			return true
		})
		t.Logf("%d tokens, %d leaders stepped down", len(all.given), stepDowns())
	})
}
