//go:build docker

package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// A crowd is a number of users and raiders who book, accept and cancel rides until they are
// stopped. The steps go to the gateway and to the second instance in turn. Each must be answered
// with 200, or with 503 and Retry-After. After 503 it is retried with the same key at the other
// place until the answer is 200.
type crowd struct {
	client *http.Client
	at     map[string][2]string // the gateway, and the second instance of each service
	stop   context.CancelFunc
	gone   sync.WaitGroup

	mu       sync.Mutex
	acked    []string             // bookings whose three steps were answered with 200
	begun    map[string]time.Time // the start of each user's last finished ride
	slowest  time.Duration        // that a step has taken, its retries included
	problems []string             // the first few
}

const (
	couples = 6
	// stride is the interval of a couple's rides. It is well below the limit of 60 bookings per
	// minute.
	stride = 1500 * time.Millisecond
)

// newCrowd registers the users and raiders and logs them in.
func newCrowd(t *testing.T, s *stack) *crowd {
	t.Helper()
	pool, err := certfile.Authorities(s.file(t, "authsvc-1", "/ca/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(prefix, second string) [2]string {
		return [2]string{"https://127.0.0.1:" + s.ports["8080"] + prefix, "https://127.0.0.1:" + s.ports[second]}
	}
	return &crowd{
		client: &http.Client{Timeout: 30 * time.Second,
			Transport: webtest.Transport(t, &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}, "..")},
		at: map[string][2]string{"auth": at("/auth", "3100"), "user": at("/user", "3101"),
			"rider": at("/rider", "3102")},
		begun: map[string]time.Time{},
	}
}

// run lets the crowd ride until the test ends or rest is called.
func (c *crowd) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	t.Cleanup(c.rest)
	for i := range couples {
		name := fmt.Sprintf("couple-%d", i)
		user, rider := c.enter(t, name+"@example.com", "user"), c.enter(t, name+"@example.com", "raider")
		c.gone.Go(func() { wait.Every(ctx, stride, func(n int) { c.ride(ctx, name, n, user, rider) }) })
	}
}

// rest stops the crowd and waits until all rides have ended.
func (c *crowd) rest() {
	c.stop()
	c.gone.Wait()
}

// ride is one ride of a couple.
func (c *crowd) ride(ctx context.Context, name string, n int, user, rider string) {
	begun, key := time.Now(), fmt.Sprintf("%s-%d", name, n)
	booked := c.repeat(ctx, n, "user", "/book", "{}", user, key)
	if booked.ID == "" {
		return
	}
	accepted := c.repeat(ctx, n+1, "rider", "/accept-booking", `{"booking_id":"`+booked.ID+`"}`, rider, key)
	if accepted.ID != booked.ID {
		return
	}
	if cancelled := c.repeat(ctx, n+1, "user", "/bookings/"+booked.ID+"/cancel", "{}", user,
		key); cancelled.ID != booked.ID {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = append(c.acked, booked.ID)
	c.begun[name] = begun
}

// repeat retries a step until it is answered with 200.
func (c *crowd) repeat(ctx context.Context, first int, service, path, body, token, key string) answer {
	begun := time.Now()
	for try := first; ; try++ {
		a, err := c.call(ctx, http.MethodPost, c.at[service][try%2]+path, body, token, key)
		switch {
		case ctx.Err() != nil:
			return answer{}
		case err != nil: // an instance that is being replaced
		case a.status == http.StatusOK:
			c.mu.Lock()
			c.slowest = max(c.slowest, time.Since(begun))
			c.mu.Unlock()
			return a
		case a.status != http.StatusServiceUnavailable || a.retryAfter == "":
			c.mu.Lock()
			if len(c.problems) < 10 {
				c.problems = append(c.problems, fmt.Sprintf("%s: %d, Retry-After %q: %s", path, a.status, a.retryAfter,
					a.text))
			}
			c.mu.Unlock()
			return answer{}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return answer{}
		}
	}
}

// An answer has the members that the crowd reads.
type answer struct {
	ID    string `json:"booking_id"`
	State string `json:"state"`
	Token string `json:"token"`

	status     int
	retryAfter string
	text       string
}

func (c *crowd) call(ctx context.Context, method, url, body, token, key string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range map[string]string{"Authorization": token, "Idempotency-Key": key} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	a.status, a.retryAfter, a.text = resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
	_ = json.Unmarshal(text, &a) // without JSON there is no booking
	return a, nil
}

// enter registers an account at the gateway, and logs in at the second instance of authsvc.
func (c *crowd) enter(t *testing.T, email, role string) (authorization string) {
	t.Helper()
	const password = "a password that is long"
	who := fmt.Sprintf(`{"email":%q,"password":%q,"role":%q}`, email, password, role)
	for i, path := range []string{"/register", "/login"} {
		a, err := c.call(t.Context(), http.MethodPost, c.at["auth"][i]+path, who, "", "")
		if err != nil || a.status/100 != 2 {
			t.Fatalf("%s of %s: %d %s %v", path, email, a.status, a.text, err)
		}
		authorization = "Bearer " + a.Token
	}
	return authorization
}

// everybody waits until each couple has finished a ride that began after the call. It returns how
// long that took, and the longest time of a step since its last attempt.
func (c *crowd) everybody(t *testing.T) (took, slowest time.Duration) {
	t.Helper()
	now := time.Now()
	wait.Until(t, "all couples ride", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		all := 0
		for _, begun := range c.begun {
			if begun.After(now) {
				all++
			}
		}
		return all == couples || len(c.problems) > 0
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.problems) > 0 {
		t.Fatalf("answers other than 200 and 503: %q", c.problems)
	}
	slowest, c.slowest = c.slowest, 0
	return time.Since(now), slowest
}

// rides returns the finished bookings.
func (c *crowd) rides() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.acked)
}
