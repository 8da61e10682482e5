package authsvc_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/token"
)

func withRules(r session.Rules) func(*authsvc.Config, *authsvc.HasherConfig) {
	return func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Rules = r }
}

func TestLoginBeginsASession(t *testing.T) {
	k := newKit(t)
	got := k.kim(t)
	if got.ExpiresIn != 60 {
		t.Errorf("expires_in = %d, want the issuer's 60", got.ExpiresIn)
	}
	c := k.mustVerify(t, got.Token)
	session, rest, _ := strings.Cut(got.Refresh, ".")
	generation, secret, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if session != c.Session || generation != "1" || err != nil || len(raw) != 48 {
		t.Errorf("refresh token = %q, want the session %s, the generation 1 and 48 bytes", got.Refresh, c.Session)
	}
}

func TestRefresh(t *testing.T) {
	k := newKit(t)
	first := k.kim(t)
	before := k.mustVerify(t, first.Token)
	k.hashes.take()
	now := first
	for range 5 {
		next := k.mustRefresh(t, now.Refresh)
		c := k.mustVerify(t, next.Token)
		if c.Session != before.Session || c.Subject != before.Subject || c.Email != before.Email ||
			c.Role != before.Role || c.ID == before.ID {
			t.Errorf("claims = %+v after %+v", c, before)
		}
		if next.Refresh == now.Refresh || next.ExpiresIn != 60 {
			t.Errorf("answer = %+v", next)
		}
		now, before = next, c
	}
	wantCosts(t, k.hashes.take())
	if got := k.revoked.take(); got != nil {
		t.Errorf("refreshing revoked %v", got)
	}
}

// Within the grace any instance repeats the same answer, also after a restart.
func TestLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		same := []func(*authsvc.Config, *authsvc.HasherConfig){withStore(k.config.Accounts),
			func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = k.config.Sessions }}
		first := k.kim(t)
		next := k.mustRefresh(t, first.Refresh)
		for range 2 {
			after(5 * time.Second)
			for _, instance := range []*kit{k, newKit(t, same...)} {
				again := instance.mustRefresh(t, first.Refresh)
				if again.Refresh != next.Refresh {
					t.Errorf("asked again after a lost answer: %q, want %q", again.Refresh, next.Refresh)
				}
				k.mustVerify(t, again.Token)
			}
		}
		k.mustRefresh(t, next.Refresh)
		if got := k.revoked.take(); got != nil {
			t.Errorf("honest repetition revoked %v", got)
		}
		if n := testutil.ToFloat64(counter(t, k, "pillion_refreshes_total", "repeated")); n != 2 {
			t.Errorf("%v repeated answers counted, want 2", n)
		}
	})
}

// A second use of a token ends the session, no matter who has the current token.
func TestReuse(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
		uses  int // of the chain, before the first token is used again
		wait  time.Duration
	}{
		{"the one before, after the grace", 0, 1, 10*time.Second + 1},
		{"the one before, much later", 0, 1, time.Hour},
		{"the one before, the grace being off", -1, 1, 0},
		{"the one before, after a shorter grace", time.Second, 1, 2 * time.Second},
		{"an older one, at once", 0, 2, 0},
		{"a much older one", 0, 50, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, withRules(session.Rules{Grace: c.grace}))
				first := k.kim(t)
				other := k.mustOpen(t, "kim@example.com", goodPassword, "user")
				now := first
				for range c.uses {
					now = k.mustRefresh(t, now.Refresh)
				}
				after(c.wait)
				session := first.Refresh[:26]
				k.wantNoRefresh(t, first.Refresh)
				got := k.revoked.take()
				if len(got) != 1 || got[0].Session != session ||
					!got[0].At.Equal(time.Now().Truncate(time.Microsecond)) {
					t.Errorf("revoked %+v, want the session %s, now", got, session)
				}
				if c.wait < time.Minute {
					k.wantTakenBack(t, first.Token)
					k.wantTakenBack(t, now.Token)
				}
				k.wantNoRefresh(t, now.Refresh)
				k.wantNoRefresh(t, first.Refresh)
				k.mustRefresh(t, other.Refresh) // another session of the same account is none of it

				lines := k.log.Lines(t, "refresh")
				var line map[string]any
				for _, l := range lines {
					if l["result"] == "reused" {
						line = l
					}
				}
				if line["level"] != "WARN" || line["reason"] != "token was used before" || line["session"] != session ||
					line["account"] == nil {
					t.Errorf("log = %v", line)
				}
				if n := testutil.ToFloat64(counter(t, k, "pillion_refreshes_total", "reused")); n != 1 {
					t.Errorf("%v reuses counted, want 1", n)
				}
			})
		})
	}
}

func TestSessionsRunOut(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules session.Rules
		steps []time.Duration // from one refresh to the next; the last one is refused
	}{
		{"7 days after its login, however much it is used", session.Rules{}, []time.Duration{48 * time.Hour, 48 * time.Hour, 48 * time.Hour, 24*time.Hour - time.Second, time.Second}},
		{"idle for more than 72 hours", session.Rules{}, []time.Duration{72 * time.Hour, 72*time.Hour + 1}},
		{"no idle limit", session.Rules{Idle: -1}, []time.Duration{160 * time.Hour, 8 * time.Hour}},
		{"its own limits", session.Rules{Life: time.Hour, Idle: time.Minute}, []time.Duration{time.Minute, 61 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, withRules(c.rules))
				now := k.kim(t)
				for i, step := range c.steps {
					after(step)
					if i == len(c.steps)-1 {
						k.wantNoRefresh(t, now.Refresh)
						break
					}
					now = k.mustRefresh(t, now.Refresh)
				}
				if lines := k.log.Lines(t, "refresh"); lines[len(lines)-1]["reason"] != "session has expired" {
					t.Errorf("log = %v", lines[len(lines)-1])
				}
			})
		})
	}
}

// A session whose account may not log in cannot be refreshed. It continues if the reason is
// temporary.
func TestAccountsThatMayNotGoOn(t *testing.T) {
	store := new(authtest.Accounts)
	k := newKit(t, withStore(store))
	kim := k.kim(t)
	change := func(edit func(*authsvc.Account)) {
		a := k.account(t, "kim@example.com", token.User)
		edit(&a)
		if err := store.Replace(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	change(func(a *authsvc.Account) { a.Disabled = true })
	k.wantNoRefresh(t, kim.Refresh)
	w := k.ask(t, post("/login", body("kim@example.com", goodPassword, "user")), http.StatusUnauthorized, "")
	if w.Body.String() != "Invalid credentials" {
		t.Errorf("a disabled account = %q", w.Body)
	}
	change(func(a *authsvc.Account) { a.Disabled = false })
	kim = k.mustRefresh(t, kim.Refresh)

	change(func(a *authsvc.Account) { a.SessionEpoch++ })
	k.wantNoRefresh(t, kim.Refresh)
	change(func(a *authsvc.Account) { a.SessionEpoch-- })
	k.wantNoRefresh(t, kim.Refresh) // it has been ended

	empty := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = k.config.Sessions })
	kim = k.mustOpen(t, "kim@example.com", goodPassword, "user")
	empty.wantNoRefresh(t, kim.Refresh) // of nobody

	kim = k.mustOpen(t, "kim@example.com", goodPassword, "user")
	empty.mustRegister(t, "kim@example.com", goodPassword, "user") // another Kim
	empty.wantNoRefresh(t, kim.Refresh)
	k.wantNoRefresh(t, kim.Refresh)

	on := newKit(t, withStore(store), withDemo)
	seed(t, on)
	john := on.mustOpen(t, "john@example.com", "password123", "user")
	off := newKit(t, withStore(store),
		func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = on.config.Sessions })
	off.wantNoRefresh(t, john.Refresh)
	on.mustRefresh(t, john.Refresh)
}

func TestSessionSettings(t *testing.T) {
	for _, c := range []struct {
		rules session.Rules
		says  string
	}{
		{session.Rules{Life: 8 * 24 * time.Hour}, "life"},
		{session.Rules{Life: -1}, "life"},
		{session.Rules{Grace: time.Hour}, "grace"},
	} {
		config := newKit(t).config
		config.Rules, config.Registerer = c.rules, nil
		if s, err := authsvc.New(config); s != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("New with %+v = %v, %v", c.rules, s, err)
		}
	}
}
