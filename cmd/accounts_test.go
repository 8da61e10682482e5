package cmd_test

import (
	"net/http"
	"strings"
	"testing"

	"pillion/authsvc/postgres/postgrestest"
)

var asJSON = http.Header{"Content-Type": {"application/json"}}

// Accounts move from NATS to PostgreSQL and back, and whoever had one still has it.
func TestAccountsMove(t *testing.T) {
	server := postgrestest.Start(t)
	database := server.Database(t)
	p := pillion(t, t.TempDir(), "--demo")
	const kim = `{"email":"kim@example.com","password":"correct horse battery","role":"user"}`
	if status, words := call(t, http.MethodPost, p.at["authsvc"]+"/register", asJSON, kim); status != http.StatusCreated {
		t.Fatalf("register: %d %s", status, words)
	}
	move := func(from, to string) (int, string, string) {
		t.Helper()
		return finish(t, "authsvc", "accounts", "copy", "--from="+from, "--to="+to, "--nats-url="+p.at["nats"])
	}
	for _, want := range []string{"3 copied, 0 had been copied before, 0 differ.\n", "0 copied, 3 had been copied before, 0 differ.\n"} {
		if status, stdout, stderr := move("nats", database); status != 0 || stdout != want {
			t.Errorf("copy: %d %q %q, want %q", status, stdout, stderr, want)
		}
	}

	moved := start(t, "authsvc", "--data="+t.TempDir(), "--auth-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-url="+p.at["nats"], "--accounts="+database)
	await(t, "the accounts are there", func() bool {
		_, words := moved.readiness(t)
		return !strings.Contains(words, "accounts")
	})
	if status, words := call(t, http.MethodPost, moved.at["authsvc"]+"/login", asJSON, kim); status != http.StatusOK {
		t.Errorf("login after the move: %d %s", status, words)
	}
	// Kim's account changes there, and the old one stays as it is.
	const change = `{"email":"kim@example.com","role":"user","current":"correct horse battery","new":"staple correct horse"}`
	if status, words := call(t, http.MethodPost, moved.at["authsvc"]+"/password", asJSON, change); status != http.StatusOK {
		t.Errorf("change the password: %d %s", status, words)
	}
	status, stdout, stderr := move("nats", database)
	if status != 1 || !strings.Contains(stdout, "differs: account ") || !strings.Contains(stdout, "2 had been copied before, 1 differ.") || strings.Contains(stdout, "kim@") {
		t.Errorf("copy over a changed account: %d %q %q", status, stdout, stderr)
	}

	server.Kill()
	await(t, "it is unready without its database", func() bool {
		status, words := moved.readiness(t)
		return status == http.StatusServiceUnavailable && strings.Contains(words, "accounts database")
	})
	if status, words := call(t, http.MethodPost, moved.at["authsvc"]+"/login", asJSON, kim); status != http.StatusServiceUnavailable {
		t.Errorf("login without the database: %d %s", status, words)
	}
	if status, words := get(t, moved.at["authsvc"]+"/public-key"); status != http.StatusOK {
		t.Errorf("the public key needs no database: %d %s", status, words)
	}
}

func TestAccountsCopyRefuses(t *testing.T) {
	for _, c := range []struct{ from, to, says string }{
		{"nats", "nats", "--from and --to are the same place. Name two."},
		{"mysql://root:hunter2@db/x", "nats", "--from must be nats, or look like postgres://user:password@host:5432/database."},
		{"nats", "postgres://root:hunter2@db:port/x", "--to must be nats, or look like"},
	} {
		status, _, stderr := finish(t, "authsvc", "accounts", "copy", "--from="+c.from, "--to="+c.to)
		if status != 2 || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "hunter2") {
			t.Errorf("from %s to %s: %d %q, want 2 and %q", c.from, c.to, status, stderr, c.says)
		}
	}
}
