package authsvc_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/leaving"
	"github.com/example/pillion/internal/fault"
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

// wantGone fails t if any of the tokens still works.
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
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Audit = said.record })
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
		if entry.What != "delete" || entry.Result != "success" || entry.Account != before.ID ||
			entry.Session != kim.Refresh[:26] || entry.Email != "k***@example.com" {
			t.Errorf("the audit trail says %+v", entry)
		}
		if line := k.log.Lines(t, "account deletion"); len(line) != 1 || line[0]["result"] != "success" ||
			line[0]["account"] != before.ID {
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
			t.Error("a new account with the same email is the old account")
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

// An account with an unfinished ride cannot be deleted. Rides that begin meanwhile are ended
// afterwards.
func TestDeletionLooksAtRides(t *testing.T) {
	for _, path := range []string{"", "/account/delete"} {
		var says error
		var asked []string
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) {
			c.CancelBookings = func(_ context.Context, account string, role token.Role) error {
				asked = append(asked, "withdraw "+account+" "+string(role))
				return says
			}
			c.EndRides = func(_ context.Context, account string, role token.Role) error {
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
		says = leaving.ErrUnknown
		try(goodPassword, http.StatusServiceUnavailable, leaving.ErrUnknown.Message)
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
	k.ask(t, deleting(k.auth.Token(token.Service, tokentest.Rita, ""), goodPassword), http.StatusForbidden,
		"Invalid token")
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

// Wrong passwords count as at a login, and together with those.
func TestDeleteAccountIsThrottled(t *testing.T) {
	env := bustest.Run(t)
	clock := newClock()
	k := newKit(t, throttled(t, env.Connect(t), clock.time))
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

// After a deletion no store contains the email, except in ended sessions, which expire.
func TestDeleteAccountLeavesNothingInTheStores(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		conn := e.Connect(t)
		k := newKit(t, throttled(t, conn, time.Now), withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))),
			func(c *authsvc.Config, _ *authsvc.HasherConfig) {
				c.Sessions = conn.Bucket(bus.SessionsBucket)
			})
		kim := k.kim(t)
		// An earlier version.
		k.ask(t, change("kim@example.com", "user", goodPassword, newPassword), http.StatusOK, "")
		// Which takes its record along.
		k.wantNoRefresh(t, kim.Refresh)
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
