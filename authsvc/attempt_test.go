package authsvc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// switched is a store whose answers a test can replace by an error.
type switched struct {
	*authtest.Accounts
	err error
}

func (s *switched) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	if s.err != nil {
		return authsvc.Account{}, s.err
	}
	return s.Accounts.Find(ctx, email, role)
}

// Each attempt is counted and logged once, with what an operator needs and without secrets.
func TestAttemptsAreCountedAndLogged(t *testing.T) {
	store := &switched{Accounts: new(authtest.Accounts)}
	k := newKit(t, withStore(store))
	const secret = "S3cret-pass-phrase"
	do := func(path, body string) string { return k.do(post(path, body)).Body.String() }

	do("/register", body("kim.secret@example.com", secret, "user"))
	kim := k.account(t, "kim.secret@example.com", token.User)
	do("/register", body("kim.secret@example.com", secret, "user"))
	do("/register", body("kim.secret@example.com", "short", "user"))
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(do("/login", body("kim.secret@example.com", secret, "user"))),
		&answer); err != nil {
		t.Fatal(err)
	}
	do("/login", body("kim.secret@example.com", secret+"!", "user"))
	do("/login", body("tim.secret@example.com", secret, "user"))
	do("/login", body(secret, secret, "user")) // typed into the wrong field
	do("/login", body("kim.secret@example.com", secret, "admin"))
	do("/login", "{"+secret)
	left, leave := context.WithCancel(t.Context())
	leave()
	k.do(post("/login", body("kim.secret@example.com", secret, "user")).WithContext(left))
	store.err = bus.ErrUnavailable
	do("/login", body("kim.secret@example.com", secret, "user"))
	do("/register", body("kim.secret@example.com", secret, "user"))
	store.err = errors.New("broken")
	do("/login", body("kim.secret@example.com", secret, "user"))
	do("/register", body("kim.secret@example.com", secret, "user"))

	const (
		kimMask = "k***@example.com"
		timMask = "t***@example.com"
	)
	type line struct{ result, reason, account, role, email string }
	for message, want := range map[string][]line{
		"registration": {
			{"success", "", kim.ID, "user", kimMask},
			{"taken", "account_taken", "", "user", kimMask},
			{"invalid", "password_too_short", "", "user", kimMask},
			{"unavailable", "bus_unavailable", "", "user", kimMask},
			{"error", "internal", "", "user", kimMask},
		},
		"login": {
			{"success", "", kim.ID, "user", kimMask},
			{"refused", "wrong password", kim.ID, "user", kimMask},
			{"refused", "unknown account", "", "user", timMask},
			{"refused", "unknown account", "", "user", ""},
			{"invalid", "invalid_role", "", "", ""},
			{"invalid", "not_json", "", "", ""},
			{"gone", "store_away", "", "user", kimMask},
			{"unavailable", "bus_unavailable", "", "user", kimMask},
			{"error", "internal", "", "user", kimMask},
		},
	} {
		got := k.log.Lines(t, message)
		if len(got) != len(want) {
			t.Fatalf("%d lines of %s, want %d", len(got), message, len(want))
		}
		for i, w := range want {
			value := func(name string) string { s, _ := got[i][name].(string); return s }
			g := line{value("result"), value("reason"), value("account"), value("role"), value("email")}
			if g != w {
				t.Errorf("%s %d = %+v, want %+v", message, i, g, w)
			}
			if len(value("request_id")) != 26 {
				t.Errorf("%s %d has the request id %q", message, i, value("request_id"))
			}
		}
	}
	for name, hidden := range map[string]string{
		"a password": secret, "a token": answer.Token,
		"a signature": answer.Token[strings.LastIndex(answer.Token, "."):],
		"a hash":      kim.Hash, "an email": "kim.secret", "another email": "tim.secret",
	} {
		if hidden == "" || strings.Contains(k.log.String(), hidden) {
			t.Errorf("%s is in the log", name)
		}
	}

	const counts = `
# HELP pillion_logins_total Attempts to log in, by result.
# TYPE pillion_logins_total counter
pillion_logins_total{result="busy"} 0
pillion_logins_total{result="error"} 1
pillion_logins_total{result="gone"} 1
pillion_logins_total{result="invalid"} 2
pillion_logins_total{result="limited"} 0
pillion_logins_total{result="refused"} 3
pillion_logins_total{result="success"} 1
pillion_logins_total{result="unavailable"} 1
# HELP pillion_registrations_total Attempts to register, by result.
# TYPE pillion_registrations_total counter
pillion_registrations_total{result="busy"} 0
pillion_registrations_total{result="error"} 1
pillion_registrations_total{result="gone"} 0
pillion_registrations_total{result="invalid"} 1
pillion_registrations_total{result="limited"} 0
pillion_registrations_total{result="success"} 1
pillion_registrations_total{result="taken"} 1
pillion_registrations_total{result="unavailable"} 1
`
	if err := testutil.GatherAndCompare(k.registry, strings.NewReader(counts), "pillion_logins_total",
		"pillion_registrations_total"); err != nil {
		t.Error(err)
	}
}

func TestBusyIsCounted(t *testing.T) {
	k := newKit(t, func(_ *authsvc.Config, p *authsvc.HasherConfig) { p.Concurrent, p.Queue, p.Wait = 1, 1, 1 })
	hold, held := make(chan struct{}), make(chan struct{})
	k.hashes.during = func() { close(held); <-hold }
	first := make(chan int)
	go func() { first <- k.do(post("/login", body("kim@example.com", goodPassword, "user"))).Code }()
	<-held
	w := k.ask(t, post("/login", body("kim@example.com", goodPassword, "user")), http.StatusServiceUnavailable,
		"Too many people")
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q", w.Header().Get("Retry-After"))
	}
	close(hold)
	if code := <-first; code != http.StatusUnauthorized {
		t.Errorf("the one before = %d", code)
	}
	if lines := k.log.Lines(t, "login"); lines[0]["result"] != "busy" || lines[0]["reason"] != "too_many_logins" {
		t.Errorf("log = %v", lines)
	}
}

// A log line about an account never shows its hash.
func TestAccountsKeepTheirHash(t *testing.T) {
	k := newKit(t)
	a := authtest.Account(t, "kim.secret@example.com", token.User)
	k.config.Log.Info("careless", "account", a, "pointer", &a)
	if log := k.log.String() + a.String(); strings.Contains(log, "argon2id") || strings.Contains(log, "kim.secret") ||
		!strings.Contains(log, a.ID) {
		t.Errorf("an account shows as %s", log)
	}
}
