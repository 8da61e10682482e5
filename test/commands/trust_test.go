package commands

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/token/trustkey"
)

// TestRecordsOfSomebodyElse has somebody with the operator's key store an account and a session
// that nobody asks for. authsvc is unready because of each until it is gone, and names its key.
func TestRecordsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := proctest.Pillion(t, data, "--demo")
	conn := operatorAt(t, p, data)
	for _, name := range []string{bus.AccountsBucket, bus.SessionsBucket} {
		bucket, key := conn.Bucket(name), "of-somebody-else"
		revision, err := bucket.Create(t.Context(), key, []byte(`{"v":1,"id":"x","email":"kim@example.com"}`))
		if err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "authsvc says so", func() bool {
			status, words := p.Readiness(t)
			return status == http.StatusServiceUnavailable && strings.Contains(words, "bucket "+name+", key "+key) &&
				!strings.Contains(words, "kim")
		})
		if _, metrics := proctest.Get(t, p.At["ops"]+"/metrics"); !strings.Contains(metrics,
			`pillion_untrusted_records_total{bucket="`+name+`"} 1`+"\n") {
			t.Errorf("%s: it is not counted once", name)
		}
		if err := bucket.Delete(t.Context(), key, revision); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "authsvc is ready again", func() bool {
			status, _ := p.Readiness(t)
			return status == http.StatusOK
		})
	}
}

// operatorAt connects with the operator's key to a pillion with a data folder.
func operatorAt(t *testing.T, p *proctest.Program, data string) *bus.Conn {
	t.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(filepath.Join(data, "services"), access.Operator))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(bus.Config{URL: p.At["nats"], Key: key, Inbox: access.Operator})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.NATS().Close)
	return conn
}

// TestTheTrustKey has somebody with the operator's key store a key set of their own. Nobody
// verifies by it, and authsvc stores the right one again. Then the trust key is replaced: people go
// on.
func TestTheTrustKey(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	services := filepath.Join(data, "services")
	p := proctest.Pillion(t, data, "--demo")
	book := func(p *proctest.Program, token string) int {
		status, _ := proctest.Call(t, http.MethodPost, p.At["usersvc"]+"/book",
			http.Header{"Authorization": {"Bearer " + token}}, "{}")
		return status
	}
	old := login(t, p)

	conn := operatorAt(t, p, data)
	forger := tokentest.New(t)
	bucket := conn.Bucket(bus.KeysBucket)
	_, revision, err := bucket.Get(t.Context(), bus.JWKSKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Update(t.Context(), bus.JWKSKey, forger.KeySet().JWKS(), revision); err != nil {
		t.Fatal(err)
	}
	refused := regexp.MustCompile(`pillion_untrusted_documents_total\{kind="pillion-keys\+jwt"\} [1-9]`)
	wait.Until(t, "the forged set is refused, and the right one is there again", func() bool {
		_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
		_, now, err := bucket.Get(t.Context(), bus.JWKSKey)
		status, _ := p.Readiness(t)
		return refused.MatchString(metrics) && err == nil && now > revision+1 && status == http.StatusOK
	})
	if status := book(p, forger.Token(token.User, tokentest.Ulla, "ulla@example.com")); status != http.StatusForbidden {
		t.Errorf("book with a token of the forged set: %d", status)
	}
	if status := book(p, old); status != http.StatusOK {
		t.Errorf("book with a token of authsvc's: %d", status)
	}

	// A command with the trust key needs no authsvc.
	trustKey := filepath.Join(services, trustkey.KeyFile)
	if status, _, stderr := proctest.Finish(t, "authsvc", append([]string{"accounts", "revoke", "john@example.com",
		"--role=user", "--trust-key=" + trustKey}, p.NATS(data, access.Operator)...)...); status != 0 {
		t.Errorf("revoke: %d %s", status, stderr)
	}
	wait.Until(t, "the token is refused", func() bool { return book(p, old) == http.StatusForbidden })
	p.Stop(t)

	if status, _, stderr := proctest.Finish(t, "pillion", "keys", "init", "--services="+services,
		"--replace-trust-key"); status != 0 {
		t.Fatalf("replace the trust key: %d %s", status, stderr)
	}
	anchor := filepath.Join(services, trustkey.AnchorFile)
	trusts := func() error {
		a, err := trustkey.LoadAnchor(anchor, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := trustkey.Load(trustKey)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Trusts(k) {
			return trustkey.ErrAnchor
		}
		return nil
	}
	if trusts() == nil {
		t.Error("the public half was replaced before authsvc was restarted")
	}
	p = proctest.Pillion(t, data, "--demo")
	if status := book(p, old); status != http.StatusForbidden {
		t.Errorf("book with a token that was revoked under the former trust key: %d", status)
	}
	if status := book(p, login(t, p)); status != http.StatusOK {
		t.Errorf("book under the new trust key: %d", status)
	}
	if err := trusts(); err != nil {
		t.Errorf("pillion has not given its services the public half of the new key: %v", err)
	}
}
