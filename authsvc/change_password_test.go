package authsvc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

const newPassword = "staple of another kind"

func change(email, role, current, next string) *http.Request {
	b, err := json.Marshal(map[string]string{"email": email, "role": role, "current": current, "new": next})
	if err != nil {
		panic(err)
	}
	return post("/password", string(b))
}

func TestPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
		k.mustRegister(t, "kim@example.com", goodPassword, "raider")
		rider := k.mustOpen(t, "kim@example.com", goodPassword, "raider")
		before := k.account(t, "kim@example.com", token.User)
		w := k.ask(t, change("Kim@Example.com", "user", goodPassword, newPassword), http.StatusOK, "")
		if w.Body.String() != `{"status":true,"message":"Password Changed"}` {
			t.Errorf("answer = %s", w.Body)
		}
		k.ask(t, post("/login", body("kim@example.com", goodPassword, "user")), http.StatusUnauthorized,
			"Invalid credentials")
		k.mustVerify(t, k.mustOpen(t, "kim@example.com", newPassword, "user").Token)
		for _, old := range []tokens{kim, other} {
			k.wantTakenBack(t, old.Token)
			k.wantNoRefresh(t, old.Refresh)
		}
		k.mustVerify(t, rider.Token) // another account, with a password of its own
		k.mustOpen(t, "kim@example.com", goodPassword, "raider")

		now := k.account(t, "kim@example.com", token.User)
		if now.ID != before.ID || now.EmailAsEntered != before.EmailAsEntered || !now.Created.Equal(before.Created) ||
			now.Hash == before.Hash || now.SessionEpoch != 1 {
			t.Errorf("account = %#v", now)
		}
		for _, hidden := range []string{goodPassword, newPassword, now.Hash} {
			if strings.Contains(k.log.String(), hidden) {
				t.Error("a secret is in the log")
			}
		}
		if line := k.log.Lines(t, "password change"); len(line) != 1 || line[0]["result"] != "success" ||
			line[0]["account"] != now.ID {
			t.Errorf("log = %v", line)
		}
	})
}

// /password reveals no more than /login, and takes the same work.
func TestPasswordRefusalsAreLogins(t *testing.T) {
	store := new(authtest.Accounts)
	seed(t, newKit(t, withStore(store), withDemo))
	k := newKit(t, withStore(store))
	k.kim(t)
	before := k.account(t, "kim@example.com", token.User)
	login := sameForAll(k.do(post("/login", body("kim@example.com", "wrong password", "user"))))
	k.hashes.take()
	for _, c := range []struct{ name, email, role, current string }{
		{"wrong password", "kim@example.com", "user", "wrong password"},
		{"empty password", "kim@example.com", "user", ""},
		{"the new one already", "kim@example.com", "user", newPassword},
		{"another role", "kim@example.com", "raider", goodPassword},
		{"unknown account", "tim@example.com", "user", goodPassword},
		{"not an email", "x", "user", goodPassword},
		{"Kelvin sign for k", "\u212aim@example.com", "user", goodPassword},
		{"demo account, the demo being off", "john@example.com", "user", "password123"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := k.ask(t, change(c.email, c.role, c.current, newPassword), http.StatusUnauthorized,
				"Invalid credentials")
			if got := sameForAll(w); got != login {
				t.Errorf("the answer is another than that of a login:\n%s\nwant\n%s", got, login)
			}
			// The second one is whether it was done before.
			wantCosts(t, k.hashes.take(), lightCost, lightCost)
		})
	}
	if got := k.account(t, "kim@example.com", token.User); got != before || k.revoked.take() != nil {
		t.Error("a refused change changed something")
	}
}

// A client that was not answered repeats its request, with a password or code that the first
// request has used up. The repetition finishes the change and is not a wrong try. It proves only
// the new password, and only for a short time.
func TestPasswordChangedAlready(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(t *testing.T, k *kit) func(next string) *http.Request
	}{
		{"with the password", func(*testing.T, *kit) func(string) *http.Request {
			return func(next string) *http.Request { return change("kim@example.com", "user", goodPassword, next) }
		}},
		{"with a code", func(t *testing.T, k *kit) func(string) *http.Request {
			code, _, err := k.operator().ResetPassword(t.Context(), k.account(t, "kim@example.com", token.User))
			if err != nil {
				t.Fatal(err)
			}
			after(2 * time.Second)
			return func(next string) *http.Request { return setByCode("kim@example.com", "user", code, next) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := throttle.DefaultLimits()
				limits.Account.Free = 3
				g, err := throttle.New(throttle.Config{Counters: new(bucket), Familiar: new(bucket), Limits: limits})
				if err != nil {
					t.Fatal(err)
				}
				k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Throttle = g })
				open := k.kim(t)
				ask := c.ask(t, k)
				k.revoked.fail(bus.ErrUnavailable)
				k.ask(t, ask(newPassword), http.StatusServiceUnavailable, "")
				k.ask(t, ask(newPassword), http.StatusServiceUnavailable, "")
				k.revoked.fail(nil)
				for range 5 {
					k.ask(t, ask(newPassword), http.StatusOK, "Password Changed")
				}
				k.wantTakenBack(t, open.Token)
				now := k.account(t, "kim@example.com", token.User)
				wantRefused(t, k.do(ask(newPassword+"!"))) // another request
				if got := k.account(t, "kim@example.com", token.User); got != now {
					t.Error("a request that was made again changed something")
				}
				k.mustOpen(t, "kim@example.com", newPassword, "user")
				after(time.Minute)
				wantRefused(t, k.do(ask(newPassword)))
			})
		})
	}
}

func TestPasswordPolicy(t *testing.T) {
	k := newKit(t)
	k.kim(t)
	k.hashes.take()
	for _, c := range []struct{ name, email, role, current, next, sentence string }{
		{"too short", "kim@example.com", "user", goodPassword, "1234567", "at least 8"},
		{"too long", "kim@example.com", "user", goodPassword, strings.Repeat("x", 129), "at most 128 characters"},
		{"common", "kim@example.com", "user", goodPassword, "Password", "too common"},
		{"none", "kim@example.com", "user", goodPassword, "", "at least 8"},
		{"of nobody", "tim@example.com", "user", goodPassword, "1234567", "at least 8"},
		{"with the wrong current one", "kim@example.com", "user", "wrong password", "1234567", "at least 8"},
		{"current too long", "kim@example.com", "user", strings.Repeat("x", 129), newPassword, "at most 128 characters"},
		{"no role", "kim@example.com", "", goodPassword, newPassword, "Invalid role"},
		{"service", "kim@example.com", "service", goodPassword, newPassword, "Invalid role"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k.ask(t, change(c.email, c.role, c.current, c.next), http.StatusBadRequest, c.sentence)
		})
	}
	wantCosts(t, k.hashes.take())
	k.mustOpen(t, "kim@example.com", goodPassword, "user")
}

func TestDemoPasswordsStay(t *testing.T) {
	k := newKit(t, withDemo)
	seed(t, k)
	k.ask(t, change("john@example.com", "user", "password123", newPassword), http.StatusForbidden, "demo account")
	k.ask(t, change("john@example.com", "user", "password124", newPassword), http.StatusUnauthorized,
		"Invalid credentials")
	k.mustOpen(t, "john@example.com", "password123", "user")
}

// Of two simultaneous changes of a password one succeeds, and its password is valid.
func TestPasswordRace(t *testing.T) {
	store, sessions := new(authtest.Accounts), new(authtest.Sessions)
	share := func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Accounts, c.Sessions = store, sessions }
	one, other := newKit(t, share), newKit(t, share)
	one.kim(t)
	const racers = 6
	var wg sync.WaitGroup
	var status [racers]int
	for i := range racers {
		wg.Go(func() {
			r := change("kim@example.com", "user", goodPassword, newPassword+string(rune('a'+i)))
			status[i] = []*kit{one, other}[i%2].do(r).Code
		})
	}
	wg.Wait()
	won := -1
	for i, code := range status {
		switch {
		case code == http.StatusOK && won < 0:
			won = i
		case code != http.StatusUnauthorized:
			t.Errorf("racer %d = %d", i, code)
		}
	}
	if won < 0 {
		t.Fatal("nobody's password was set")
	}
	one.mustOpen(t, "kim@example.com", newPassword+string(rune('a'+won)), "user")
}

// A login rehashes a password whose hash costs less than a new one, and no other request does.
func TestRehash(t *testing.T) {
	today := authsvc.HashCost{Memory: authsvc.MinMemory + 1024, Iterations: 3, Parallelism: 1}
	dearer := func(_ *authsvc.Config, p *authsvc.HasherConfig) { p.Cost = today }
	store := new(authtest.Accounts)
	was := newKit(t, withStore(store))
	kim := was.kim(t)
	before := was.account(t, "kim@example.com", token.User)

	k := newKit(t, withStore(store), dearer,
		func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = was.config.Sessions })
	k.ask(t, post("/login", body("kim@example.com", "wrong password", "user")), http.StatusUnauthorized, "")
	if got := k.account(t, "kim@example.com", token.User); got != before {
		t.Error("a wrong password changed the account")
	}
	k.hashes.take()
	k.mustOpen(t, "kim@example.com", goodPassword, "user")
	wantCosts(t, k.hashes.take(), lightCost, today)
	now := k.account(t, "kim@example.com", token.User)
	if !strings.HasPrefix(now.Hash, "$argon2id$v=19$m=20480,t=3,p=1$") {
		t.Errorf("the hash begins with %.32s", now.Hash)
	}
	if before.Hash, before.Revision = now.Hash, now.Revision; now != before {
		t.Errorf("account = %v, want %v with another hash", now, before)
	}
	k.mustRefresh(t, kim.Refresh) // which ends nobody's session
	k.mustOpen(t, "kim@example.com", goodPassword, "user")
	wantCosts(t, k.hashes.take(), today)
	// An instance with the lower cost leaves it as it is.
	was.mustOpen(t, "kim@example.com", goodPassword, "user")
	if got := k.account(t, "kim@example.com", token.User); got != now {
		t.Error("a hash was made cheaper")
	}
}

// staleStore is a store whose every Replace fails.
type staleStore struct{ *authtest.Accounts }

func (staleStore) Replace(context.Context, authsvc.Account) error { return authsvc.ErrStaleAccount }

// A login succeeds even if its password cannot be rehashed.
func TestRehashIsNoCondition(t *testing.T) {
	store := new(authtest.Accounts)
	newKit(t, withStore(store)).kim(t)
	k := newKit(t, withStore(staleStore{store}),
		func(_ *authsvc.Config, p *authsvc.HasherConfig) { p.Cost.Iterations = 3 })
	k.mustOpen(t, "kim@example.com", goodPassword, "user")
}

func TestOutdated(t *testing.T) {
	p := authsvc.NewHasher(authsvc.HasherConfig{Cost: authsvc.HashCost{Memory: 32768, Iterations: 3, Parallelism: 2}})
	make := func(memory, iterations uint32, parallelism uint8) string {
		phc, err := argon2id.CreateHash(goodPassword, &argon2id.Params{Memory: memory, Iterations: iterations,
			Parallelism: parallelism, SaltLength: 16, KeyLength: 32})
		if err != nil {
			t.Fatal(err)
		}
		return phc
	}
	for phc, want := range map[string]bool{
		make(32768, 3, 2): false, make(65536, 4, 4): false, make(19456, 3, 2): true, make(32768, 2, 2): true,
		make(32768, 3, 1): true,
		make(65536, 2, 2): true, "": false, "x": false,
	} {
		if got := p.Outdated(phc); got != want {
			t.Errorf("Outdated(%.32s) = %v", phc, got)
		}
	}
}

// The 3,000 most common passwords of sufficient length are refused in any case, and no others.
func TestCommonPasswords(t *testing.T) {
	file, err := os.ReadFile("common_passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	head, list, _ := strings.Cut(string(file), "\n\n")
	for _, named := range []string{"github.com/trustelem/zxcvbn v1.0.1", "Permission is hereby granted",
		"Copyright (c)"} {
		if !strings.Contains(head, named) {
			t.Errorf("the list does not name %q", named)
		}
	}
	p := authsvc.NewHasher(authsvc.HasherConfig{})
	all := strings.Split(strings.TrimSuffix(list, "\n"), "\n")
	distinct := make(map[string]bool)
	for _, password := range all {
		distinct[password] = true
		for _, spelled := range []string{password, strings.ToUpper(password),
			strings.ToUpper(password[:1]) + password[1:]} {
			if err := p.CheckNew(spelled, ""); err != authsvc.ErrPasswordCommon { //nolint:errorlint // the variable itself, many times
				t.Errorf("CheckNew(%q) = %v", spelled, err)
			}
		}
	}
	if len(all) != 3000 || len(distinct) != 3000 || all[0] != "password" {
		t.Errorf("%d passwords, %d of them distinct, the first %q", len(all), len(distinct), all[0])
	}
	for _, password := range []string{goodPassword, newPassword, "password ", " password", "passwordpassword1", "",
		head[:20], "marishka.", "| Permission is hereby granted"} {
		if err := p.CheckNew(password, ""); err == authsvc.ErrPasswordCommon { //nolint:errorlint // likewise
			t.Errorf("CheckNew(%q) = %v", password, err)
		}
	}
	k := newKit(t)
	k.ask(t, post("/register", body("kim@example.com", "PassWord123", "user")), http.StatusBadRequest,
		authsvc.ErrPasswordCommon.Message)
	wantCosts(t, k.hashes.take())
}

// Blanks alone and one's own email are no password, whether it is a first one, a new one, or one
// that an operator's code sets.
func TestNoPasswordAtAll(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.hashes.take()
	for password, refusal := range map[string]*fault.Error{
		"          ": authsvc.ErrPasswordBlank,
		"\u00a0\u2003\u200b\u3000\u2060\ufeff\t\t": authsvc.ErrPasswordBlank,
		"kim@example.com":                          authsvc.ErrPasswordIsEmail,
		" Kim@Example.COM ":                        authsvc.ErrPasswordIsEmail,
	} {
		proofs := map[string]string{
			"current": goodPassword, "code": "aaaa-bbbb-cccc-dddd",
		}
		k.ask(t, post("/register", body(" KIM@example.com", password, "raider")), http.StatusBadRequest, refusal.Message)
		for proof, value := range proofs {
			change := fmt.Sprintf(`{"email":"kim@example.com","role":"user",%q:%q,"new":%q}`, proof, value, password)
			k.ask(t, post("/password", change), http.StatusBadRequest, refusal.Message)
		}
	}
	wantCosts(t, k.hashes.take())
	k.mustRegister(t, "tim@example.com", "kim@example.com", "user") // another's
}
