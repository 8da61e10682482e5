package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/postgres/postgrestest"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/webtest"
)

const password = "correct horse battery"

// service returns the HTTP handler of an authsvc with its accounts in a database.
func service(t *testing.T, accounts authsvc.AccountStore) http.Handler {
	t.Helper()
	passwords := authsvc.NewHasher(authsvc.HasherConfig{Wait: time.Minute})
	auth := tokentest.New(t)
	s, err := authsvc.New(authsvc.Config{
		Accounts: accounts, Sessions: new(authtest.Sessions),
		Revoke:   func(context.Context, token.Revocation) error { return nil },
		Verifier: auth.Verifier(), Issuer: auth.Issuer(time.Minute), Keys: auth.KeySet, Hasher: passwords,
	})
	if err != nil {
		t.Fatal(err)
	}
	return webtest.Checked(t, s.Routes(), "../openapi.yaml")
}

// A crowd registers and logs in until it is stopped, and records the answers.
type crowd struct {
	t       *testing.T
	handler http.Handler

	mu         sync.Mutex
	registered []string
	answers    map[int]int
	next       int
	changed    chan struct{} // closed at the next answer
}

func (c *crowd) ask(path, email string) int {
	body, err := json.Marshal(map[string]string{"email": email, "password": password, "role": "user"})
	if err != nil {
		c.t.Error(err)
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	switch w.Code {
	case http.StatusOK, http.StatusCreated:
	case http.StatusServiceUnavailable:
		if w.Header().Get("Retry-After") == "" {
			c.t.Errorf("%s: 503 without Retry-After", path)
		}
	default:
		c.t.Errorf("%s: %d %s", path, w.Code, w.Body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[w.Code]++
	close(c.changed)
	c.changed = make(chan struct{})
	return w.Code
}

func (c *crowd) work(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.next++
		email := fmt.Sprintf("user-%d@example.com", c.next)
		c.mu.Unlock()
		if c.ask("/register", email) == http.StatusCreated {
			c.mu.Lock()
			c.registered = append(c.registered, email)
			c.mu.Unlock()
			c.ask("/login", email)
		}
	}
}

// await waits until there are that many more answers of a status.
func (c *crowd) await(status, more int) {
	c.t.Helper()
	deadline := time.After(time.Minute)
	c.mu.Lock()
	want := c.answers[status] + more
	c.mu.Unlock()
	for {
		c.mu.Lock()
		got, changed := c.answers[status], c.changed
		c.mu.Unlock()
		if got >= want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("there are %d answers of %d, want %d", got, status, want)
		}
	}
}

// PostgreSQL dies, and stands still, under load: what was acknowledged stays, nobody gets
// anything but a success or a clear 503, and it goes on when PostgreSQL does.
func TestKilledUnderLoad(t *testing.T) {
	server := postgrestest.Start(t)
	url := server.Database(t)
	c := &crowd{t: t, handler: service(t, open(t, url)), answers: make(map[int]int), changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { c.work(ctx) })
	}
	defer all.Wait()
	defer cancel()

	c.await(http.StatusCreated, 5)
	server.Kill()
	c.await(http.StatusServiceUnavailable, 8)
	server.Run(t)
	c.await(http.StatusOK, 5)

	if server.Pause() {
		c.await(http.StatusServiceUnavailable, 1)
		server.Resume()
		c.await(http.StatusOK, 5)
	}

	cancel()
	all.Wait()
	t.Logf("answers by status: %v", c.answers)
	// Another instance knows everybody who was acknowledged, and each record is whole: its
	// password is the right one.
	fresh := open(t, url)
	passwords := authsvc.NewHasher(authsvc.HasherConfig{})
	for i, email := range c.registered {
		a, err := fresh.Find(t.Context(), authsvc.Email(email), token.User)
		if err != nil || a.ID == "" || a.EmailAsEntered != email {
			t.Errorf("%s was acknowledged, and is %v (%v)", email, a, err)
			continue
		}
		if i%10 == 0 {
			if match, err := passwords.Verify(t.Context(), password, a.Hash); !match || err != nil {
				t.Errorf("%s has another password: %v", email, err)
			}
		}
	}
}
