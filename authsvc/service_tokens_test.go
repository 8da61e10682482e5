package authsvc_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A tokenServer is the part of authsvc that issues tokens to services.
type tokenServer struct {
	*bustest.Env
	auth *tokentest.Authority
	dir  string
	life time.Duration

	mu      sync.Mutex
	entries []authsvc.Entry
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	return &tokenServer{Env: bustest.Run(t), auth: tokentest.New(t), dir: t.TempDir(), life: time.Hour}
}

// open answers requests until the test ends or close is called.
func (o *tokenServer) open(t *testing.T) (closed func()) {
	t.Helper()
	issuer, err := token.NewIssuer(token.IssuerConfig{Key: o.auth.Private, Life: o.life, Type: token.ServiceType})
	if err != nil {
		t.Fatal(err)
	}
	tokens := authsvc.NewServiceTokens(o.dir, issuer, func(_ context.Context, e authsvc.Entry) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.entries = append(o.entries, e)
	}, nil)
	conn := o.Connect(t)
	stop, err := trust.ServeAuth(conn, "1.0.0", func() *token.KeySet { return nil }, tokens.Token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	closed = sync.OnceFunc(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := conn.NATS().Flush(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closed)
	return closed
}

// identity returns a running identity of a service whose key is in the server's folder.
func (o *tokenServer) identity(t *testing.T, service string) *trust.Identity {
	t.Helper()
	key, err := bus.LoadOrCreateServiceKey(filepath.Join(o.dir, service+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := token.NewVerifier(token.Config{Keys: o.auth.Keys(), Type: token.ServiceType})
	if err != nil {
		t.Fatal(err)
	}
	i, err := trust.NewIdentity(o.Connect(t), trust.IdentityConfig{Service: service, Key: key, Verifier: v})
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, i.Run)
	return i
}

// Readers of the ledger accept a service's token, but no HTTP request does.
func TestServicesAct(t *testing.T) {
	o := newTokenServer(t)
	i := o.identity(t, "usersvc")
	if _, _, err := i.Act(t.Context()); !errors.Is(err, trust.ErrNoIdentity) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without a token: %v", err)
	}
	o.open(t) // later than the service
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	wait.Until(t, "it can act", func() bool { return i.Ready(ctx) == nil })
	actor, proof, err := i.Act(ctx)
	if err != nil || actor.ID != token.ServiceID("usersvc") || string(actor.Role) != string(token.Service) {
		t.Fatalf("Act = %v, %v", actor, err)
	}
	if other := token.ServiceID("ridersvc"); other == actor.ID || len(other) != 26 {
		t.Errorf("the id of another service is %q", other)
	}
	c, err := o.auth.Verifier().VerifyAt(ctx, proof, time.Now())
	if err != nil || c.Subject != actor.ID || c.Role != token.Service {
		t.Errorf("a reader of an event with it: %v, %v", c, err)
	}
	if _, err := o.auth.Verifier().Verify(ctx, proof); token.Reason(err) != "type" {
		t.Errorf("a request with a service's token: %v", err)
	}
}

// An identity survives a failure of authsvc that is shorter than half of its token's life, and
// gets a new token afterwards by itself.
func TestServicesOutliveAuthsvc(t *testing.T) {
	t.Parallel() // most of it is waiting
	o := newTokenServer(t)
	o.life = 21 * time.Second // of which it uses 6, and asks for another after 10.5
	closed := o.open(t)
	i := o.identity(t, "usersvc")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wait.Until(t, "it can act", func() bool { return i.Ready(ctx) == nil })
	closed()
	_, first, err := i.Act(ctx)
	if err != nil {
		t.Errorf("right after authsvc has gone: %v", err)
	}
	wait.Until(t, "the token is too old to be used", func() bool {
		_, _, err := i.Act(ctx)
		return errors.Is(err, trust.ErrNoIdentity)
	})
	o.open(t)
	wait.Until(t, "there is a new token", func() bool {
		_, proof, err := i.Act(ctx)
		return err == nil && proof != first
	})
}

// A caller that is not a service gets nothing, and learns nothing useful; each try is in the audit
// trail.
func TestStrangersGetNoServiceToken(t *testing.T) {
	o := newTokenServer(t)
	o.open(t)
	conn := o.Connect(t)
	key, err := bus.LoadOrCreateServiceKey(filepath.Join(o.dir, "usersvc.nk"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.LoadOrCreateServiceKey(filepath.Join(o.dir, "ridersvc.nk")); err != nil {
		t.Fatal(err)
	}
	other, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	question := func(service string, at time.Time, nonce string) string {
		data, err := json.Marshal(map[string]any{"v": 1, "service": service, "at": at, "nonce": nonce, "seal": to})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	ask := func(body string, signed string, by nkeys.KeyPair) (code string, answer []byte) {
		t.Helper()
		signature, err := by.Sign([]byte(signed))
		if err != nil {
			t.Fatal(err)
		}
		m, err := conn.NATS().RequestMsg(&nats.Msg{Subject: "auth.service-token", Data: []byte(body),
			Header: nats.Header{"Pillion-Signature": {base64.RawURLEncoding.EncodeToString(signature)}}},
			10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return m.Header.Get("Nats-Service-Error-Code"), m.Data
	}
	now := time.Now()
	good := question("usersvc", now, "one")
	for _, tt := range []struct {
		name         string
		body, signed string
		by           nkeys.KeyPair
		code, reason string // reason: in the audit trail; empty: it is not worth an entry
	}{
		{"good", good, good, key, "", ""},
		{"the same again", good, good, key, "403", "service_replay"},
		{"another's key", question("usersvc", now, "two"), question("usersvc", now, "two"), other, "403", "service_unknown"},
		{"another service's name", question("ridersvc", now, "three"), question("ridersvc", now, "three"), key, "403", "service_unknown"},
		{"a service that is not known", question("adminsvc", now, "four"), question("adminsvc", now, "four"), key, "403", "service_unknown"},
		{"a path", question("../usersvc", now, "five"), question("../usersvc", now, "five"), key, "403", "service_unknown"},
		{"changed afterwards", question("usersvc", now, "six"), question("usersvc", now, "seven"), key, "403", "service_unknown"},
		{"a minute ago", question("usersvc", now.Add(-time.Minute), "eight"), question("usersvc", now.Add(-time.Minute), "eight"), key, "403", "service_clock"},
		{"in a minute", question("usersvc", now.Add(time.Minute), "nine"), question("usersvc", now.Add(time.Minute), "nine"), key, "403", "service_clock"},
		{"no JSON", "{", "{", key, "400", ""},
		{"nothing to seal for", `{"v":1,"service":"usersvc"}`, `{"v":1,"service":"usersvc"}`, key, "400", ""},
		{"too long", good + strings.Repeat(" ", 5000), good + strings.Repeat(" ", 5000), key, "400", ""},
	} {
		o.mu.Lock()
		o.entries = nil
		o.mu.Unlock()
		code, answer := ask(tt.body, tt.signed, tt.by)
		if code != tt.code {
			t.Errorf("%s: code %q, want %q: %s", tt.name, code, tt.code, answer)
		}
		// As a token begins; three letters are there by chance, now and then.
		if strings.Contains(string(answer), "eyJhbGci") {
			t.Errorf("%s: a token can be read in the answer", tt.name)
		}
		o.mu.Lock()
		switch {
		case tt.code == "":
			if len(o.entries) != 1 || o.entries[0].Result != "success" || o.entries[0].Actor != "usersvc" {
				t.Errorf("%s: the audit trail says %+v", tt.name, o.entries)
			}
		case tt.reason != "":
			if len(o.entries) != 1 || o.entries[0].Result != "refused" || o.entries[0].Reason != tt.reason {
				t.Errorf("%s: the audit trail says %+v", tt.name, o.entries)
			}
		}
		o.mu.Unlock()
	}
}

// A service's key is made once, with a public half beside it, and what is no key is refused with
// a sentence.
func TestServiceKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "services", "usersvc.nk")
	var public [2]string
	for i := range public {
		key, err := bus.LoadOrCreateServiceKey(path)
		if err != nil {
			t.Fatal(err)
		}
		if public[i], err = key.PublicKey(); err != nil {
			t.Fatal(err)
		}
	}
	beside, err := os.ReadFile(filepath.Join(dir, "services", "usersvc.pub"))
	if err != nil || public[0] != public[1] || strings.TrimSpace(string(beside)) != public[0] {
		t.Errorf("keys %v, and beside them %q: %v", public, beside, err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"no seed":        {"hunter2", 0o600, "does not hold the seed of an nkey"},
		"an account's":   {string(seed), 0o600, "another kind of nkey"},
		"open to others": {"hunter2", 0o644, "chmod 600"},
		"much too long":  {strings.Repeat("x", 5000), 0o600, "cannot be read"},
		"empty":          {"", 0o600, "does not hold the seed of an nkey"},
	} {
		file := filepath.Join(t.TempDir(), "x.nk")
		if err := os.WriteFile(file, []byte(tt.content), tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := bus.LoadOrCreateServiceKey(file)
		f := fault.From(err)
		if f == nil || f.Kind != fault.Invalid || !strings.Contains(f.Message, tt.says) ||
			!strings.Contains(f.Message, file) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
