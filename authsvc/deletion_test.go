package authsvc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// deleting returns a DELETE /account.
func deleting(access, password string) *http.Request {
	b, err := json.Marshal(map[string]string{"password": password})
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest(http.MethodDelete, "/account", strings.NewReader(string(b)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+access)
	return r
}

const deleted = `{"status":true,"message":"Account Deleted"}`

// wantGone fails t unless nothing works any longer of what somebody was given.
func (k *kit) wantGone(t *testing.T, open ...tokens) {
	t.Helper()
	for _, o := range open {
		k.wantTakenBack(t, o.Token)
		k.wantNoRefresh(t, o.Refresh)
	}
}

func TestDeleteAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said trail
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.PasswordsConfig) { c.Audit = said.record })
		kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
		k.mustRegister(t, "kim@example.com", newPassword, "raider")
		rider := k.mustOpen(t, "kim@example.com", newPassword, "raider")
		before := k.account(t, "kim@example.com", token.User)
		said.take()
		w := k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, "")
		if w.Body.String() != deleted || len(w.Result().Cookies()) != 0 {
			t.Errorf("answer = %s, %v", w.Body, w.Result().Cookies())
		}
		k.wantGone(t, kim, other)
		wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
		wantRefused(t, k.do(change("kim@example.com", "user", goodPassword, newPassword)))
		k.ask(t, deleting(kim.Token, goodPassword), http.StatusForbidden, "Invalid token")
		k.mustVerify(t, rider.Token) // another account
		rider = k.mustRefresh(t, rider.Refresh)

		entry := said.take()[0]
		if entry.What != "delete" || entry.Result != "success" || entry.Account != before.ID || entry.Session != kim.Refresh[:26] || entry.Email != "k***@example.com" {
			t.Errorf("the audit trail says %+v", entry)
		}
		if line := k.log.Lines(t, "account deletion"); len(line) != 1 || line[0]["result"] != "success" || line[0]["account"] != before.ID {
			t.Errorf("log = %v", line)
		}
		for _, hidden := range []string{goodPassword, "kim@example.com", kim.Token} {
			if strings.Contains(k.log.String(), hidden) {
				t.Errorf("%q is in the log", hidden)
			}
		}
		if n := testutil.ToFloat64(counter(t, k, "pillion_account_deletions_total", "success")); n != 1 {
			t.Errorf("%v deletions are counted", n)
		}

		again := k.kim(t) // in the same second
		now := k.account(t, "kim@example.com", token.User)
		if now.ID == before.ID || k.mustVerify(t, again.Token).Subject != now.ID {
			t.Error("who registers anew is who was there before")
		}
		k.mustRefresh(t, again.Refresh)
		k.wantGone(t, kim, other)
		k.ask(t, deleting(kim.Token, goodPassword), http.StatusForbidden, "Invalid token")
		k.ask(t, deleting(rider.Token, newPassword), http.StatusOK, deleted)
		k.wantGone(t, rider)
	})
}

func TestDeleteAccountWithACookie(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	w := k.ask(t, post("/login", cookieBody()), http.StatusOK, "")
	cookie := theCookie(t, w)
	w = k.ask(t, deleting(tokensOf(t, w).Token, goodPassword), http.StatusOK, deleted)
	if c := theCookie(t, w); c.MaxAge >= 0 || c.Value != "" || c.Name != cookie.Name {
		t.Errorf("the cookie is %v, want that it is cleared", c)
	}
}

// Nobody is left alone in a ride: its account stays until it is over. What happened since that was
// looked at is ended afterwards.
func TestDeletionLooksAtRides(t *testing.T) {
	for _, path := range []string{"", "/account/delete"} {
		var says error
		var asked []string
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.PasswordsConfig) {
			c.Withdraw = func(_ context.Context, account string, role token.Role) error {
				asked = append(asked, "withdraw "+account+" "+string(role))
				return says
			}
			c.Bereave = func(_ context.Context, account string, role token.Role) error {
				asked = append(asked, "bereave "+account+" "+string(role))
				return bus.ErrUnavailable // and nothing comes of that
			}
		})
		kim := k.kim(t)
		id := k.account(t, "kim@example.com", token.User).ID
		try := func(password string, status int, want string) {
			t.Helper()
			r := deleting(kim.Token, password)
			if path != "" {
				r = post(path, `{"password":"`+password+`"}`)
				r.Header.Set("Authorization", "Bearer "+kim.Token)
			}
			k.ask(t, r, status, want)
		}
		try("wrong password", http.StatusUnauthorized, "Invalid credentials")
		if asked != nil {
			t.Errorf("without the password: %v", asked)
		}
		says = fault.New(fault.Conflict, "ride_under_way", "You have a ride.")
		try(goodPassword, http.StatusConflict, "You have a ride.")
		says = bus.ErrRidesUnknown
		try(goodPassword, http.StatusServiceUnavailable, bus.ErrRidesUnknown.Message)
		k.mustVerify(t, kim.Token)
		kim.Refresh = k.mustRefresh(t, kim.Refresh).Refresh
		says, asked = nil, nil
		try(goodPassword, http.StatusOK, deleted)
		k.wantGone(t, kim)
		if want := []string{"withdraw " + id + " user", "bereave " + id + " user"}; !slices.Equal(asked, want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
	}
}

func TestDeleteAccountRefuses(t *testing.T) {
	k := newKit(t, withDemo)
	kim := k.kim(t)
	before := k.account(t, "kim@example.com", token.User)
	for _, forged := range k.auth.Forgeries() {
		if strings.Trim(forged.Token, " ") != forged.Token {
			continue // spaces around a token are not the token's, in a header
		}
		if w := k.do(deleting(forged.Token, goodPassword)); w.Code < 400 {
			t.Errorf("with %s = %d %s", forged.Name, w.Code, w.Body)
		}
	}
	r := deleting("", goodPassword)
	r.Header.Del("Authorization")
	k.ask(t, r, http.StatusUnauthorized, "Missing Authorization header")
	k.ask(t, deleting(k.auth.Token(token.Service, tokentest.Rita, ""), goodPassword), http.StatusForbidden, "Invalid token")
	k.ask(t, deleting(kim.Token, strings.Repeat("x", 129)), http.StatusBadRequest, "too long")
	for _, b := range []string{"", "{", `{"password":1}`, `{"pass":"x"}`, `{"password":"a","password":"b"}`, `[]`} {
		r := deleting(kim.Token, "")
		r.Body = http.NoBody
		if b != "" {
			r = httptest.NewRequest(http.MethodDelete, "/account", strings.NewReader(b))
			r.Header = deleting(kim.Token, "").Header
		}
		k.ask(t, r, http.StatusBadRequest, "")
	}
	k.hashes.take()
	for _, wrong := range []string{"", newPassword, goodPassword + " "} {
		w := k.do(deleting(kim.Token, wrong))
		if login := k.do(post("/login", body("kim@example.com", wrong, "user"))); sameForAll(w) != sameForAll(login) {
			t.Errorf("a wrong password is answered\n%s\nwhich at login is\n%s", sameForAll(w), sameForAll(login))
		}
		wantCosts(t, k.hashes.take(), lightCost, lightCost)
	}
	k.ask(t, deleting(kim.Token, newPassword), http.StatusUnauthorized, "Invalid credentials")
	if k.account(t, "kim@example.com", token.User) != before {
		t.Error("the account has changed")
	}
	k.mustVerify(t, kim.Token)
	k.mustRefresh(t, kim.Refresh)

	if err := k.service.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for email, role := range map[string]string{"john@example.com": "user", "rider@example.com": "raider"} {
		demo := k.mustOpen(t, email, "password123", role)
		k.ask(t, deleting(demo.Token, "password124"), http.StatusUnauthorized, "Invalid credentials")
		k.ask(t, deleting(demo.Token, "password123"), http.StatusForbidden, authsvc.ErrDemoAccount.Message)
		k.mustOpen(t, email, "password123", role)
	}
}

// Wrong passwords count as they do at a login, and one with the others.
func TestDeleteAccountIsGuarded(t *testing.T) {
	env := bustest.Run(t)
	clock := newClock()
	k := newKit(t, guarded(t, env.Connect(t), clock.time))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	kim := tokensOf(t, k.do(from("198.51.100.1", post("/login", body("kim@example.com", goodPassword, "user")))))
	for i := range 5 {
		guess := deleting(kim.Token, newPassword)
		if i%2 == 0 {
			guess = post("/login", body("kim@example.com", newPassword, "user"))
		}
		wantRefused(t, k.do(guess))
	}
	k.hashes.take()
	wantLimited(t, k.do(deleting(kim.Token, goodPassword)), "1")
	wantLimited(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))), "1")
	wantCosts(t, k.hashes.take())
	clock.forward(time.Second)
	k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
}

// Nothing that can be looked up has the email any longer, but the ends of other sessions, which go with their time.
func TestDeleteAccountLeavesNothingInTheStores(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		conn := e.Connect(t)
		k := newKit(t, guarded(t, conn, time.Now), withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))), func(c *authsvc.Config, _ *authsvc.PasswordsConfig) {
			c.Sessions = conn.Bucket(bus.SessionsBucket)
		})
		kim := k.kim(t)
		k.ask(t, change("kim@example.com", "user", goodPassword, newPassword), http.StatusOK, "") // an earlier version
		k.wantNoRefresh(t, kim.Refresh)                                                           // which takes its record along
		kim = k.mustOpen(t, "kim@example.com", newPassword, "user")
		wantRefused(t, k.do(from("198.51.100.1", post("/login", body("kim@example.com", "a wrong guess", "user")))))
		kim = k.mustRefresh(t, kim.Refresh)
		count := func(bucket string) (values int) {
			t.Helper()
			kv, err := conn.JetStream().KeyValue(t.Context(), bucket)
			if err != nil {
				t.Fatal(err)
			}
			w, err := kv.WatchAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = w.Stop() }()
			for v := range w.Updates() {
				if v == nil {
					break
				}
				if len(v.Value()) > 0 {
					values++
				}
				if strings.Contains(string(v.Value()), "kim") {
					t.Errorf("%s has %s under %s", bucket, v.Value(), v.Key())
				}
			}
			return values
		}
		k.ask(t, deleting(kim.Token, newPassword), http.StatusOK, deleted)
		for _, bucket := range []string{bus.AccountsBucket, bus.SessionsBucket, bus.FamiliarBucket} {
			if values := count(bucket); values != 0 {
				t.Errorf("%s has %d values", bucket, values)
			}
		}
		// Of counters there are those of the two networks, which are not the account's.
		if values := count(bus.LimitsBucket); values != 4 {
			t.Errorf("%s has %d values, want those of addresses, tokens and registrations", bus.LimitsBucket, values)
		}
	})
}

// TestDeletionIsFinished: wherever it fails, the same request made again ends it, and until then there is no more than before.
func TestDeletionIsFinished(t *testing.T) {
	t.Run("before the account is gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &away{Accounts: new(authtest.Accounts)}
			k := newKit(t, withStore(store))
			kim := k.kim(t)
			store.deletes = true
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.mustVerify(t, kim.Token)
			store.deletes = false
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim)
		})
	})
	t.Run("before its tokens are taken back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.revoked.fail(bus.ErrUnavailable)
			w := k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			if w.Header().Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
			k.wantNoRefreshYet(t, other.Refresh)
			k.mustVerify(t, kim.Token) // or nobody could ask again
			k.revoked.fail(nil)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim, other)
		})
	})
	t.Run("when somebody has the email by then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			kim := k.kim(t)
			k.revoked.fail(bus.ErrUnavailable)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			k.revoked.fail(nil)
			anew := k.kim(t)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim)
			k.mustVerify(t, anew.Token)
			k.mustRefresh(t, anew.Refresh)
			k.mustOpen(t, "kim@example.com", goodPassword, "user")
		})
	})
}

// away is a store whose deletions fail.
type away struct {
	*authtest.Accounts
	deletes bool
}

func (s *away) Delete(ctx context.Context, a authsvc.Account) error {
	if s.deletes {
		return bus.ErrUnavailable
	}
	return s.Accounts.Delete(ctx, a)
}

// moment is a store in which something happens right after an account was found for the nth time.
type moment struct {
	*authtest.Accounts
	n    int // 0: never
	then func()
}

func (s *moment) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	a, err := s.Accounts.Find(ctx, email, role)
	if s.n > 0 {
		if s.n--; s.n == 0 {
			s.then()
		}
	}
	return a, err
}

// TestDeletionDuring: whatever is under way when an account is deleted leaves nothing behind that works, at whichever moment.
func TestDeletionDuring(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(tokens) *http.Request
		most int // how often it looks at the account, where nothing happens
	}{
		{"a login", func(tokens) *http.Request { return post("/login", body("kim@example.com", goodPassword, "user")) }, 2},
		{"a refresh", func(o tokens) *http.Request { return refreshWith(o.Refresh) }, 1},
		{"a change of the password", func(tokens) *http.Request { return change("kim@example.com", "user", goodPassword, newPassword) }, 1},
		{"a logout of all sessions", func(o tokens) *http.Request { return bearing("/logout-all", o.Token) }, 1},
		{"a deletion", func(o tokens) *http.Request { return deleting(o.Token, goodPassword) }, 3},
	} {
		for n := 1; n <= c.most; n++ {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &moment{Accounts: new(authtest.Accounts)}
					k := newKit(t, withStore(store))
					kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
					after(time.Second)
					ran := false
					store.then = func() {
						ran = true
						k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
					}
					store.n = n
					w := k.do(c.ask(other))
					if !ran {
						t.Fatalf("it has not looked at the account %d times", n)
					}
					if strings.HasPrefix(c.name, "a deletion") && w.Code != http.StatusOK {
						t.Errorf("answer %d %s, although the account is gone", w.Code, w.Body)
					}
					if w.Code == http.StatusOK {
						if got := tokensOf(t, w); got.Token != "" {
							k.wantGone(t, got)
						}
					}
					k.wantGone(t, kim, other)
					for _, password := range []string{goodPassword, newPassword} {
						wantRefused(t, k.do(post("/login", body("kim@example.com", password, "user"))))
					}
					if store.Len() != 0 {
						t.Error("the account is back")
					}
				})
			})
		}
	}
}

// TestDuringADeletion: what happens to an account while its deletion is under way is not overlooked.
func TestDuringADeletion(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int // after which look at the account
		do     func(k *kit, t *testing.T, open tokens)
		status int
	}{
		{"a change of the password, before it is checked", 1, changes, http.StatusUnauthorized},
		{"a change of the password, after it is checked", 2, changes, http.StatusUnauthorized},
		{"a logout of all sessions", 2, func(k *kit, t *testing.T, open tokens) {
			k.ask(t, bearing("/logout-all", open.Token), http.StatusOK, "")
		}, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &moment{Accounts: new(authtest.Accounts)}
				k := newKit(t, withStore(store))
				kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
				store.then = func() { c.do(k, t, other) }
				store.n = c.n
				k.ask(t, deleting(kim.Token, goodPassword), c.status, "")
				k.wantGone(t, kim, other)
				if gone := store.Len() == 0; gone != (c.status == http.StatusOK) {
					t.Errorf("gone: %v", gone)
				}
				if c.status != http.StatusOK {
					k.mustOpen(t, "kim@example.com", newPassword, "user")
				}
			})
		})
	}
}

// TestDeletionSparesTheNext: whoever has the email by the time that the password is checked has another account, whatever its password.
func TestDeletionSparesTheNext(t *testing.T) {
	for n := 1; n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			store := &moment{Accounts: new(authtest.Accounts)}
			k := newKit(t, withStore(store))
			kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
			store.then = func() {
				k.ask(t, deleting(other.Token, goodPassword), http.StatusOK, deleted)
				k.mustRegister(t, "kim@example.com", goodPassword, "user")
			}
			store.n = n
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim, other)
			anew := k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.mustVerify(t, anew.Token)
			k.mustRefresh(t, anew.Refresh)
		})
	}
}

func changes(k *kit, t *testing.T, _ tokens) {
	k.ask(t, change("kim@example.com", "user", goodPassword, newPassword), http.StatusOK, "")
}

// A crowd is everything that several clients of one account were ever given.
type crowd struct {
	mu    sync.Mutex
	given []tokens
}

func (c *crowd) take(o tokens) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given = append(c.given, o)
}

// last returns what was given last.
func (c *crowd) last() tokens {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.given[len(c.given)-1]
}

// TestDeletionRaces deletes accounts while they are logged in to, refreshed and changed, on two instances over the real stores, whose leaders
// step down on three replicas. Whatever anybody was given is worth nothing afterwards.
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
			watch := trust.NewRevocationWatch(conn, new(trust.Epoch))
			background.Go(func() { _ = watch.Run(ctx) })
			for watch.Ready(ctx) != nil && ctx.Err() == nil {
				runtime.Gosched()
			}
			many := func(l *authsvc.Limits) {
				l.Address.Free, l.Account.Free, l.Refreshes.Free = 1_000_000, 1_000_000, 1_000_000
			}
			k := newKit(t, guarded(t, conn, time.Now, many), withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))),
				func(c *authsvc.Config, _ *authsvc.PasswordsConfig) {
					c.Sessions, c.Revoke = conn.Bucket(bus.SessionsBucket), func(ctx context.Context, r token.Revocation) error { return trust.Revoke(ctx, conn, r) }
					var err error
					if verifier, err = token.NewVerifier(token.Config{Keys: tokentest.New(t).Keys(), Revocations: watch}); err != nil {
						t.Fatal(err)
					}
					c.Verifier = verifier
				})
			instances = append(instances, k.routes)
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
			others.Go(func() { // as many times as is waited for, and once more: each ends all sessions, that of whoever deletes too
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
