package authsvc_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/token"
)

// A trail records audit entries.
type trail struct {
	mu  sync.Mutex
	all []authsvc.Entry
}

func (a *trail) record(_ context.Context, e authsvc.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, e)
}

// take returns the entries since the last call.
func (a *trail) take() []authsvc.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.all
	a.all = nil
	return all
}

// Every attempt has one entry. Neither the entries nor the log contain a secret.
func TestEveryAttemptIsInTheTrail(t *testing.T) {
	var said trail
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), newClock().time),
		func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Audit = said.record })
	const email, another = "kim.secret@example.com", "some other guess"
	var secrets []string
	step := func(r *http.Request, want authsvc.Entry) string {
		t.Helper()
		w := k.do(r)
		all := said.take()
		if len(all) != 1 {
			t.Fatalf("%s: %d entries, want one", r.URL.Path, len(all))
		}
		got := all[0]
		if got.V != 1 || got.What != want.What || got.Result != want.Result || got.Reason != want.Reason ||
			got.Client != "192.0.2.1" || got.Request != w.Header().Get("X-Request-Id") {
			t.Errorf("%s: entry %+v, want %+v", r.URL.Path, got, want)
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range append(secrets, email, goodPassword, another, newPassword) {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s: %q is in the entry %s", r.URL.Path, secret, text)
			}
		}
		return w.Body.String()
	}
	step(post("/register", body(email, goodPassword, "user")), authsvc.Entry{What: "register", Result: "success"})
	step(post("/register", body(email, goodPassword, "user")),
		authsvc.Entry{What: "register", Result: "taken", Reason: "account_taken"})
	step(post("/login", body(email, another, "user")),
		authsvc.Entry{What: "login", Result: "refused", Reason: "wrong password"})
	step(post("/login", body("nobody@example.com", another, "user")),
		authsvc.Entry{What: "login", Result: "refused", Reason: "unknown account"})
	// A password in the wrong field.
	step(post("/login", body(another, another, "user")),
		authsvc.Entry{What: "login", Result: "refused", Reason: "unknown account"})
	step(post("/login", `{`), authsvc.Entry{What: "login", Result: "invalid", Reason: "not_json"})
	open := func() (tk tokens) {
		if err := json.Unmarshal([]byte(step(post("/login", body(email, goodPassword, "user")),
			authsvc.Entry{What: "login", Result: "success"})), &tk); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, tk.Token, tk.Refresh)
		return tk
	}
	first := open()
	step(refreshWith(first.Refresh), authsvc.Entry{What: "refresh", Result: "success"})
	step(refreshWith("no token"), authsvc.Entry{What: "refresh", Result: "refused", Reason: "not a refresh token"})
	step(bearing("/logout", first.Token), authsvc.Entry{What: "logout", Result: "success"})
	step(bearing("/logout-all", open().Token), authsvc.Entry{What: "logout-all", Result: "success"})
	step(deleting(open().Token, another), authsvc.Entry{What: "delete", Result: "refused", Reason: "wrong password"})
	step(deleting(open().Token, goodPassword), authsvc.Entry{What: "delete", Result: "success"})
	step(post("/register", body(email, goodPassword, "user")), authsvc.Entry{What: "register", Result: "success"})
	code, _, err := k.operator().ResetPassword(t.Context(), k.account(t, email, token.User))
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, code)
	step(setByCode(email, "user", code, newPassword), authsvc.Entry{What: "password", Result: "success"})
	for range 5 {
		step(post("/login", body(email, another, "user")),
			authsvc.Entry{What: "login", Result: "refused", Reason: "wrong password"})
	}
	step(post("/login", body(email, another, "user")),
		authsvc.Entry{What: "limit", Result: "limited", Reason: "too_many_attempts"})
	for _, secret := range append(secrets, email, goodPassword, another, newPassword) {
		if strings.Contains(k.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	e := authsvc.EntryOf(k.account(t, email, token.User), "disable", "root")
	if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), email) || e.What != "operator" ||
		e.Actor != "root" || e.Reason != "disable" {
		t.Errorf("an operator's entry is %s (%v)", text, err)
	}
}
