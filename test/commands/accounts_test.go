package commands

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/authsvc/postgres/postgrestest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

var asJSON = http.Header{"Content-Type": {"application/json"}}

// TestAccountsMove moves accounts from NATS to PostgreSQL and back. All accounts still exist.
func TestAccountsMove(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	database := server.Database(t)
	data := t.TempDir()
	p := proctest.Pillion(t, data, "--demo")
	const kim = `{"email":"kim@example.com","password":"correct horse battery","role":"user"}`
	if status, words := proctest.Call(t, http.MethodPost, p.At["authsvc"]+"/register", asJSON,
		kim); status != http.StatusCreated {
		t.Fatalf("register: %d %s", status, words)
	}
	move := func(from, to string) (int, string, string) {
		t.Helper()
		return proctest.Finish(t, "authsvc", append([]string{"accounts", "copy", "--from=" + from, "--to=" + to,
			"--trust-key=" + filepath.Join(data, "services", "trust.key")}, p.NATS(data, "operator")...)...)
	}
	for _, want := range []string{"3 copied, 0 had been copied before, 0 differ.\n",
		"0 copied, 3 had been copied before, 0 differ.\n"} {
		if status, stdout, stderr := move("nats", database); status != 0 || stdout != want {
			t.Errorf("copy: %d %q %q, want %q", status, stdout, stderr, want)
		}
	}

	moved := proctest.Start(t, "authsvc", "--data="+data, "--auth-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--nats-url="+p.At["nats"], "--accounts="+database)
	wait.Until(t, "the accounts are there", func() bool {
		_, words := moved.Readiness(t)
		return !strings.Contains(words, "accounts")
	})
	if status, words := proctest.Call(t, http.MethodPost, moved.At["authsvc"]+"/login", asJSON,
		kim); status != http.StatusOK {
		t.Errorf("login after the move: %d %s", status, words)
	}
	// Kim's account changes in PostgreSQL. The old copy stays as it is.
	const change = `{"email":"kim@example.com","role":"user","current":"correct horse battery","new":"staple correct horse"}`
	if status, words := proctest.Call(t, http.MethodPost, moved.At["authsvc"]+"/password", asJSON,
		change); status != http.StatusOK {
		t.Errorf("change the password: %d %s", status, words)
	}
	status, stdout, stderr := move("nats", database)
	if status != 1 || !strings.Contains(stdout, "differs: account ") ||
		!strings.Contains(stdout, "2 had been copied before, 1 differ.") || strings.Contains(stdout, "kim@") {
		t.Errorf("copy over a changed account: %d %q %q", status, stdout, stderr)
	}

	server.Kill()
	wait.Until(t, "it is unready without its database", func() bool {
		status, words := moved.Readiness(t)
		return status == http.StatusServiceUnavailable && strings.Contains(words, "accounts database")
	})
	if status, words := proctest.Call(t, http.MethodPost, moved.At["authsvc"]+"/login", asJSON,
		kim); status != http.StatusServiceUnavailable {
		t.Errorf("login without the database: %d %s", status, words)
	}
	if status, words := proctest.Get(t, moved.At["authsvc"]+"/public-key"); status != http.StatusOK {
		t.Errorf("the public key needs no database: %d %s", status, words)
	}
}

func TestAccountsCopyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, says string }{
		{"nats", "nats", "--from and --to are the same place. Name two."},
		{"mysql://root:hunter2@db/x", "nats", "--from must be nats, or look like postgres://user:password@host:5432/database."},
		{"nats", "postgres://root:hunter2@db:port/x", "--to must be nats, or look like"},
	} {
		status, _, stderr := proctest.Finish(t, "authsvc", "accounts", "copy", "--from="+c.from, "--to="+c.to)
		if status != 2 || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "hunter2") {
			t.Errorf("from %s to %s: %d %q, want 2 and %q", c.from, c.to, status, stderr, c.says)
		}
	}
}

// TestAccountsForOperators lists and changes accounts beside the running system, which follows at
// once.
func TestAccountsForOperators(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := proctest.Pillion(t, data, "--demo", "--approve-riders")
	do := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := proctest.Finish(t, "authsvc",
			append(append([]string{"accounts"}, args...), p.NATS(data, "operator")...)...)
		if status != 0 {
			t.Errorf("accounts %v: %d %q", args, status, stderr)
		}
		return stdout
	}
	post := func(path, body string) (int, string) {
		t.Helper()
		return proctest.Call(t, http.MethodPost, p.At["authsvc"]+path, asJSON, body)
	}
	wantStatus := func(what string, want int, path, body string) {
		t.Helper()
		if status, words := post(path, body); status != want {
			t.Errorf("%s: %d %s, want %d", what, status, words, want)
		}
	}
	const rita = `{"email":"rita@example.com","password":"correct horse battery","role":"raider"}`
	wantStatus("register", http.StatusCreated, "/register", rita)
	wantStatus("login before the approval", http.StatusForbidden, "/login", rita)
	if out := do("list", "--state=pending"); strings.Count(out, "\n") != 2 ||
		!strings.Contains(out, "rita@example.com  raider  pending") {
		t.Errorf("pending: %q", out)
	}
	do("approve", "rita@example.com")
	wantStatus("login", http.StatusOK, "/login", rita)
	if out := do("list", "--role=rider", "--json"); strings.Count(out, "\n") != 2 ||
		!strings.Contains(out, `"email":"rider@example.com","role":"raider","state":"active","demo":true`) ||
		strings.Contains(out, "argon2") {
		t.Errorf("riders: %q", out)
	}

	token := login(t, p)
	book := func() int {
		status, _ := proctest.Call(t, http.MethodPost, p.At["usersvc"]+"/book",
			http.Header{"Authorization": {"Bearer " + token}}, "{}")
		return status
	}
	if status := book(); status != http.StatusOK {
		t.Fatalf("book: %d", status)
	}
	do("disable", "john@example.com", "--role=user")
	wait.Until(t, "the token does not work any longer", func() bool { return book() == http.StatusForbidden })
	const john = `{"email":"john@example.com","password":"password123","role":"user"}`
	wantStatus("login when disabled", http.StatusUnauthorized, "/login", john)
	do("enable", "john@example.com")
	wantStatus("login when enabled", http.StatusOK, "/login", john)

	out := do("reset-password", "rita@example.com")
	_, rest, found := strings.Cut(out, "code: ")
	code, _, _ := strings.Cut(rest, "\n")
	if !found || len(code) != 19 {
		t.Fatalf("reset: %q", out)
	}
	wantStatus("login with a void password", http.StatusUnauthorized, "/login", rita)
	wantStatus("set a password", http.StatusOK, "/password",
		`{"email":"rita@example.com","role":"raider","code":"`+code+`","new":"staple of another kind"}`)
	wantStatus("login with it", http.StatusOK, "/login",
		`{"email":"rita@example.com","password":"staple of another kind","role":"raider"}`)
	do("revoke", "rita@example.com", "--as-of=2026-01-01T00:00:00Z")
	var shown struct{ ID string }
	if err := json.Unmarshal([]byte(do("show", "rita@example.com", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	do("revoke", shown.ID)

	wantStatus("register sven", http.StatusCreated, "/register",
		`{"email":"sven@example.com","password":"correct horse battery","role":"user"}`)
	sven := `{"email":"sven@example.com","password":"correct horse battery","role":"user"}`
	wantStatus("login of sven", http.StatusOK, "/login", sven)
	do("delete", "sven@example.com")
	wantStatus("login when deleted", http.StatusUnauthorized, "/login", sven)
	wantStatus("register what was deleted", http.StatusCreated, "/register", sven)

	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"show", "nobody@example.com"}, 1, "There is no such account."},
		{[]string{"delete", "nobody@example.com"}, 1, "There is no such account."},
		{[]string{"delete", "john@example.com"}, 1, "A demo account cannot be deleted."},
		{[]string{"disable"}, 2, "who"},
		{[]string{"revoke", "rita@example.com", "--as-of=yesterday"}, 2, "--as-of must be a time"},
		{[]string{"revoke", "rita@example.com", "--as-of=2100-01-01T00:00:00Z"}, 2, "The time is in the future."},
		{[]string{"show", "rita@example.com", "--role=admin"}, 2, "--role must be user, raider or rider"},
	} {
		status, _, stderr := proctest.Finish(t, "authsvc", append(append([]string{"accounts"}, c.args...),
			p.NATS(data, "operator")...)...)
		if status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("accounts %v: %d %q, want %d and %q", c.args, status, stderr, c.status, c.says)
		}
	}
}
