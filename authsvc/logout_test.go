package authsvc_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
		next := k.mustRefresh(t, kim.Refresh)
		w := k.ask(t, bearing("/logout", kim.Token), http.StatusOK, "")
		if w.Body.String() != `{"status":true,"message":"Logout Successful"}` || len(w.Result().Cookies()) != 0 {
			t.Errorf("answer = %s, %v", w.Body, w.Result().Cookies())
		}
		got := k.revoked.take()
		if len(got) != 1 || got[0].Session != kim.Refresh[:26] || got[0].Subject != "" ||
			!got[0].At.Equal(time.Now().Truncate(time.Microsecond)) {
			t.Errorf("revoked %+v", got)
		}
		for _, refresh := range []string{kim.Refresh, next.Refresh} {
			k.wantNoRefresh(t, refresh)
		}
		k.wantTakenBack(t, kim.Token)
		k.wantTakenBack(t, next.Token)
		for _, path := range []string{"/logout", "/logout-all"} {
			k.ask(t, bearing(path, kim.Token), http.StatusForbidden, "Invalid token")
		}
		k.mustVerify(t, other.Token)
		k.mustRefresh(t, other.Refresh)
		if line := k.log.Lines(t, "logout"); len(line) != 1 || line[0]["result"] != "success" ||
			line[0]["session"] != kim.Refresh[:26] || line[0]["account"] == nil {
			t.Errorf("log = %v", line)
		}
	})
}

// A client whose access token has expired can log out with the refresh token or its cookie.
func TestLogoutByRefreshToken(t *testing.T) {
	home := browser{origin: "http://example.com"}
	for _, path := range []string{"/logout", "/logout-all"} {
		for _, how := range []string{"in the body", "in a cookie", "in a cookie, without any access token",
			"in a cookie, without a browser"} {
			t.Run(path+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newKit(t)
					k.mustRegister(t, "kim@example.com", goodPassword, "user")
					other := k.mustOpen(t, "kim@example.com", goodPassword, "user")
					var r *http.Request
					var access, refresh string
					if how == "in the body" {
						own := k.mustOpen(t, "kim@example.com", goodPassword, "user")
						access, refresh = own.Token, own.Refresh
						r = post(path, `{"refresh_token":"`+refresh+`"}`)
					} else {
						w := k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, "")
						access, refresh = tokensOf(t, w).Token, theCookie(t, w).Value
						r = cookieTo(path, theCookie(t, w))
						if how != "in a cookie, without a browser" {
							r = home.send(r)
						}
					}
					if !strings.Contains(how, "without any") {
						r.Header.Set("Authorization", "Bearer "+access)
					}
					after(2 * time.Minute) // the access token has run out
					w := k.ask(t, r, http.StatusOK, `{"status":true,"message":"Logout Successful"}`)
					if cookies := w.Result().Cookies(); (len(cookies) == 1 &&
						cookies[0].MaxAge == -1) != (how != "in the body") {
						t.Errorf("cookies %v", cookies)
					}
					if how == "in the body" {
						k.wantNoRefresh(t, refresh)
					} else {
						k.ask(t, home.send(withCookie(&http.Cookie{Name: "pillion_refresh", Value: refresh}, "")),
							http.StatusUnauthorized, "Invalid refresh token")
					}
					if path == "/logout" {
						k.mustRefresh(t, other.Refresh)
					} else {
						k.wantNoRefresh(t, other.Refresh)
					}
				})
			})
		}
	}
}

// A forged refresh token ends nothing and counts as a wrong try. A used one ends its own session
// only.
func TestLogoutByBadRefreshTokens(t *testing.T) {
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), newClock().time,
		func(l *throttle.Limits) { l.Address.Free = 4 }))
	kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
	out := func(path, refresh string) *http.Request { return post(path, `{"refresh_token":"`+refresh+`"}`) }
	forged := kim.Refresh[:len(kim.Refresh)-4] + "AAAA"
	for _, path := range []string{"/logout", "/logout-all"} {
		k.ask(t, out(path, "x"), http.StatusUnauthorized, "Invalid refresh token")
		k.ask(t, out(path, forged), http.StatusUnauthorized, "Invalid refresh token")
		r := browser{origin: "http://evil.example"}.send(cookieTo(path,
			&http.Cookie{Name: "pillion_refresh", Value: kim.Refresh}))
		k.ask(t, r, http.StatusForbidden, authsvc.ErrCrossOrigin.Message)
		k.ask(t, post(path, `{"refresh":"x"}`), http.StatusBadRequest, "is unknown")
	}
	if got := k.revoked.take(); got != nil {
		t.Errorf("revoked %v", got)
	}
	k.mustVerify(t, kim.Token)
	next := k.mustRefresh(t, k.mustRefresh(t, kim.Refresh).Refresh)
	// Its own, if an old one.
	k.ask(t, out("/logout", kim.Refresh), http.StatusOK, "Logout Successful")
	k.wantNoRefresh(t, next.Refresh)
	k.wantTakenBack(t, next.Token)
	k.mustVerify(t, other.Token)
	k.ask(t, out("/logout", forged), http.StatusUnauthorized, "Invalid refresh token") // the fourth
	for _, path := range []string{"/logout", "/logout-all", "/refresh"} {
		wantLimited(t, k.do(out(path, forged)), "1")
	}
	// Whatever neighbours try.
	k.ask(t, out("/logout", other.Refresh), http.StatusOK, "Logout Successful")
}

func TestLogoutRefuses(t *testing.T) {
	k := newKit(t)
	k.kim(t)
	for _, path := range []string{"/logout", "/logout-all"} {
		r := bearing(path, "")
		r.Header.Del("Authorization")
		k.ask(t, r, http.StatusUnauthorized, "Missing Authorization header")
		for _, forged := range k.auth.Forgeries() {
			if strings.Trim(forged.Token, " ") != forged.Token {
				continue // spaces around a token are not the token's, in a header
			}
			w := k.do(bearing(path, forged.Token))
			// Else the header is what is wrong.
			oneToken := forged.Token != "" && !strings.ContainsAny(forged.Token, " ,\t")
			if w.Code < 400 || oneToken && (w.Code != http.StatusForbidden || w.Body.String() != "Invalid token") {
				t.Errorf("%s with %s = %d %s", path, forged.Name, w.Code, w.Body)
			}
		}
		r = bearing(path, "x")
		r.Header.Add("Authorization", "Bearer y")
		k.ask(t, r, http.StatusBadRequest, "")
	}
	k.ask(t, bearing("/logout", k.auth.Token(token.User, tokentest.Ulla, "ulla@example.com")), http.StatusBadRequest,
		"no session")
	if got := k.revoked.take(); got != nil {
		t.Errorf("revoked %v", got)
	}
}

// An access token outlives the record of its session by minutes, and can still be revoked.
func TestLogoutOfWhatIsNotThere(t *testing.T) {
	k := newKit(t)
	kim := k.kim(t)
	empty := newKit(t, withStore(k.config.Accounts))
	empty.ask(t, bearing("/logout", kim.Token), http.StatusOK, "Logout Successful")
	empty.wantTakenBack(t, kim.Token)

	k.ask(t, bearing("/logout", k.auth.Token(token.Rider, tokentest.Rita, "rita@example.com")), http.StatusBadRequest,
		"")
	k.ask(t, bearing("/logout-all", k.auth.Token(token.Rider, tokentest.Rita, "rita@example.com")), http.StatusOK,
		"Logout Successful")
	if got := k.revoked.take(); len(got) != 1 || got[0].Subject != tokentest.Rita {
		t.Errorf("revoked %v, want Rita, who has no account any more", got)
	}
}

// A logout of all sessions ends them everywhere. A login in the same second works.
func TestLogoutAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		one, two := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
		k.mustRegister(t, "kim@example.com", goodPassword, "raider")
		rider := k.mustOpen(t, "kim@example.com", goodPassword, "raider")
		after(300 * time.Millisecond)
		three := k.mustOpen(t, "kim@example.com", goodPassword, "user")

		start := time.Now()
		k.ask(t, bearing("/logout-all", one.Token), http.StatusOK, `{"status":true,"message":"Logout Successful"}`)
		kim := k.account(t, "kim@example.com", token.User)
		got := k.revoked.take()
		second := start.Truncate(time.Second).Add(time.Second)
		if len(got) != 2 || got[0].Subject != kim.ID || !got[0].NotBefore.Equal(second) ||
			!got[0].At.Equal(start.Truncate(time.Microsecond)) || got[1].Session != one.Refresh[:26] {
			t.Errorf("revoked %+v", got)
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %v", time.Since(start))
		}

		// In the same second, as far as the client can tell.
		fresh := k.mustOpen(t, "kim@example.com", goodPassword, "user")
		if !time.Now().Equal(second) {
			t.Errorf("the login was answered %v later, want %v", time.Since(start), second.Sub(start))
		}
		k.mustVerify(t, fresh.Token)
		fresh = k.mustRefresh(t, fresh.Refresh)
		k.mustVerify(t, fresh.Token)
		for _, old := range []tokens{one, two, three} {
			k.wantTakenBack(t, old.Token)
			k.wantNoRefresh(t, old.Refresh)
		}
		k.mustVerify(t, rider.Token) // another account
		k.mustRefresh(t, rider.Refresh)

		k.ask(t, bearing("/logout-all", fresh.Token), http.StatusOK, "")
		k.wantTakenBack(t, fresh.Token)
	})
}

// A logout of all sessions can be repeated until it succeeds.
func TestLogoutAllAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		kim := k.kim(t)
		k.revoked.fail(bus.ErrUnavailable)
		k.ask(t, bearing("/logout-all", kim.Token), http.StatusServiceUnavailable, "")
		k.wantNoRefreshYet(t, kim.Refresh)
		k.revoked.fail(nil)
		k.ask(t, bearing("/logout-all", kim.Token), http.StatusOK, "")
		k.wantTakenBack(t, kim.Token)
		k.wantNoRefresh(t, kim.Refresh)
	})
}

// wantNoRefreshYet fails t unless the answer is 503: the session cannot be ended yet, but yields
// no tokens either.
func (k *kit) wantNoRefreshYet(t *testing.T, refresh string) {
	t.Helper()
	k.ask(t, refreshWith(refresh), http.StatusServiceUnavailable, "")
}

// meddled is a store that calls then right after it has found an account.
type meddled struct {
	*authtest.Accounts
	then func(found authsvc.Account)
}

func (s *meddled) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	a, err := s.Accounts.Find(ctx, email, role)
	if then := s.then; err == nil && then != nil {
		s.then = nil
		then(a)
	}
	return a, err
}

// A login does not outlive a simultaneous end of all sessions or change of the password.
func TestEndingDuringALogin(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*authsvc.Account)
		status int
	}{
		// As one that began right after it.
		{"all sessions ended", func(a *authsvc.Account) {}, http.StatusOK},
		{"another password", func(a *authsvc.Account) {
			a.Hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U"
		}, http.StatusUnauthorized},
		{"disabled", func(a *authsvc.Account) { a.Disabled = true }, http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &meddled{Accounts: new(authtest.Accounts)}
				k := newKit(t, withStore(store))
				kim := k.kim(t)
				store.then = func(a authsvc.Account) { // found, and about to be hashed
					a.SessionEpoch++
					a.NotBefore = time.Now().Truncate(time.Second).Add(time.Second)
					c.change(&a)
					if err := store.Replace(t.Context(), a); err != nil {
						t.Error(err)
					}
				}
				w := k.ask(t, post("/login", body("kim@example.com", goodPassword, "user")), c.status, "")
				if c.status == http.StatusOK {
					if got := k.mustVerify(t, tokensOf(t, w).Token); got.IssuedAt.Before(k.account(t, "kim@example.com",
						token.User).NotBefore) {
						t.Errorf("issued at %v", got.IssuedAt)
					}
					k.mustRefresh(t, tokensOf(t, w).Refresh)
				}
				k.wantNoRefresh(t, kim.Refresh)
			})
		})
	}
}

// A refresh does not outlive a simultaneous end of all sessions.
func TestEndingDuringARefresh(t *testing.T) {
	store := &meddled{Accounts: new(authtest.Accounts)}
	k := newKit(t, withStore(store))
	kim := k.kim(t)
	store.then = func(a authsvc.Account) { // the session goes on, and then all are ended
		a.SessionEpoch++
		if err := store.Replace(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	kim = k.mustRefresh(t, kim.Refresh)
	k.wantNoRefresh(t, kim.Refresh)
}
