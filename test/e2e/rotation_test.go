package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestRotationUnderLoad rotates keys again and again while people log in at two instances of
// authsvc, book and accept: no request fails. Then a key turns out to have been compromised for a
// while. Its tokens stop working everywhere, and every board equals a fresh replay of the ledger.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	p, data := newPorts(t), t.TempDir()
	stay := []string{"--booking-deadline", "24h"} // boards are compared while nothing expires
	pillion(t, p, data, stay...)
	url := "nats://" + p.nats
	p.keys = data + "/services"
	more := addrs(t, 6)
	second := ports{auth: more[0], authOps: more[1], user: more[2], userOps: more[3], rider: more[4], riderOps: more[5],
		nats: p.nats}
	limits := []string{"--request-limit", "0", "--nats-url", url}
	rides := slices.Concat(limits, stay)
	proctest.Begin(t, "authsvc", append(limits, "--demo", "--data", data, "--auth-addr", second.auth, "--ops-addr",
		second.authOps)...).Ready(t)
	proctest.Begin(t, "usersvc", append(rides, "--book-limit", "0", "--open-bookings", "0", p.key("usersvc"), "--user-addr",
		second.user, "--ops-addr", second.userOps)...).Ready(t)
	proctest.Begin(t, "ridersvc", append(rides, p.key("ridersvc"), "--rider-addr", second.rider, "--ops-addr",
		second.riderOps)...).Ready(t)
	at := []ports{p, second}
	for ops, service := range map[string]string{second.userOps: "usersvc", second.riderOps: "ridersvc"} {
		wait.Until(t, service+" has a token of its own", func() bool {
			return strings.Contains(mustCall(t, "GET", "http://"+ops+"/metrics", "").body,
				`pillion_service_token_renewals_total{result="renewed",service="`+service+`"} 1`)
		})
	}

	const people = 4
	rotations, every := 3, time.Second
	if wait.Long() {
		rotations, every = 6, 3*time.Second
	}
	var users, riders [people]*session
	for i := range people {
		users[i] = newSession(t, at, fmt.Sprintf("user-%d@example.com", i), "user")
		riders[i] = newSession(t, at, fmt.Sprintf("rider-%d@example.com", i), "raider")
	}
	load, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var booked, accepted, refreshed atomic.Int64
	for i := range people {
		group.Go(func() {
			users[i].keepOn(load, 25*time.Millisecond, &refreshed, func(n int, bearer string) error {
				a, err := call(t.Context(), "POST", "http://"+at[n%2].user+"/book", "{}", "Authorization", bearer)
				if err == nil && a.status != http.StatusOK {
					err = fmt.Errorf("book: %d %s", a.status, a.body)
				}
				booked.Add(1)
				return err
			})
		})
		group.Go(func() {
			riders[i].keepOn(load, 100*time.Millisecond, &refreshed, func(n int, bearer string) error {
				a, err := call(t.Context(), "POST", "http://"+at[n%2].rider+"/accept-booking", "{}", "Authorization",
					bearer)
				if err == nil && a.status != http.StatusOK && a.status != http.StatusNotFound {
					err = fmt.Errorf("accept: %d %s", a.status, a.body)
				}
				// one ride at a time: this one is left to others
				if err == nil && a.status == http.StatusOK {
					err = release(t.Context(), at[(n+1)%2], bearer, a.field("booking_id"))
				}
				accepted.Add(1)
				return err
			})
		})
	}
	for range rotations {
		enough := booked.Load() + 30
		next := time.After(every)
		wait.Until(t, "bookings go on", func() bool { return booked.Load() >= enough })
		<-next
		keys(t, p, "rotate")
	}
	stop()
	group.Wait()
	t.Logf("%d bookings, %d accepts and %d refreshes during %d rotations", booked.Load(), accepted.Load(),
		refreshed.Load(), rotations)
	for _, ops := range []string{p.ops, second.userOps, second.riderOps} {
		a := mustCall(t, "GET", "http://"+ops+"/metrics", "")
		refused := grep(a.body, "pillion_events_refused_total{")
		if refused == "" || strings.Count(refused, "} 0") != strings.Count(refused, "pillion_") {
			t.Errorf("events were refused: %s", refused)
		}
	}
	compareBoards(t, p, at, users[:])

	// The active key was compromised a minute ago. The boards have accepted its tokens since.
	bad := active(t, p)
	var tokens []string
	for _, u := range users {
		u.refresh(t.Context(), t, 0)
		tokens = append(tokens, u.bearer())
	}
	for i, bearer := range tokens {
		if a := mustCall(t, "POST", "http://"+at[i%2].user+"/book", "{}", "Authorization",
			bearer); a.status != http.StatusOK {
			t.Errorf("book: %d %s", a.status, a.body)
		}
	}
	keys(t, p, "retire", bad, "--as-of", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	began := time.Now()
	for i, where := range []string{p.auth + "/logout", second.auth + "/logout", p.user + "/book", second.user +
		"/book"} {
		wait.Until(t, "tokens of the compromised key are refused at "+where, func() bool {
			a, err := call(t.Context(), "POST", "http://"+where, "", "Authorization", tokens[i])
			return err == nil && a.status == http.StatusForbidden && a.body == "Invalid token"
		})
	}
	t.Logf("the compromised key's tokens were refused everywhere %v after the command", time.Since(began))
	for _, u := range users {
		u.refresh(t.Context(), t, 1)
		if a := mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization",
			u.bearer()); a.status != http.StatusOK {
			t.Errorf("book with a token of the key that has taken over: %d %s", a.status, a.body)
		}
	}
	for _, ops := range []string{p.ops, second.userOps, second.riderOps} {
		wait.Until(t, "the board at "+ops+" has been read again", func() bool {
			return strings.Contains(mustCall(t, "GET", "http://"+ops+"/metrics", "").body,
				"\npillion_board_rebuilds_total 1\n")
		})
	}
	compareBoards(t, p, at, users[:])
}

// A session is a login session that refreshes at either instance.
type session struct {
	t  testing.TB
	at []ports

	mu             sync.Mutex
	token, renewal string
}

func newSession(t testing.TB, at []ports, email, role string) *session {
	t.Helper()
	body := fmt.Sprintf(`{"email":%q,"password":"correct horse battery","role":%q}`, email, role)
	if a := mustCall(t, "POST", "http://"+at[0].auth+"/register", body); a.status != http.StatusCreated {
		t.Fatalf("register %s: %d %s", email, a.status, a.body)
	}
	a := mustCall(t, "POST", "http://"+at[1].auth+"/login", body)
	if a.status != http.StatusOK {
		t.Fatalf("login as %s: %d %s", email, a.status, a.body)
	}
	return &session{t: t, at: at, token: a.field("token"), renewal: a.field("refresh_token")}
}

func (s *session) bearer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "Bearer " + s.token
}

// refresh gets a new token from instance n.
func (s *session) refresh(ctx context.Context, t testing.TB, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := call(ctx, "POST", "http://"+s.at[n].auth+"/refresh", fmt.Sprintf(`{"refresh_token":%q}`, s.renewal))
	if err != nil || a.status != http.StatusOK {
		t.Errorf("refresh: %v %d %s", err, a.status, a.body)
		return
	}
	s.token, s.renewal = a.field("token"), a.field("refresh_token")
}

// keepOn repeats a step until ctx ends, with a token that is usually younger than a second. The
// first failure ends it.
func (s *session) keepOn(
	ctx context.Context, pace time.Duration, refreshed *atomic.Int64, do func(n int, bearer string) error,
) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%max(1, int(time.Second/pace)) == 0 {
			s.refresh(s.t.Context(), s.t, n/max(1, int(time.Second/pace))%2)
			refreshed.Add(1)
		}
		if err := do(n, s.bearer()); err != nil {
			s.t.Error(err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// keys runs authsvc keys.
func keys(t testing.TB, p ports, args ...string) string {
	t.Helper()
	cmd := exec.Command(proctest.Path("authsvc"), append(append([]string{"keys"}, args...), "--json", "--nats-url",
		"nats://"+p.nats, p.key("operator"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("keys %v: %v: %s", args, err, out)
	}
	return string(out)
}

// active returns the ID of the active key.
func active(t testing.TB, p ports) string {
	t.Helper()
	for line := range strings.Lines(keys(t, p, "list")) {
		var k struct{ Kid, Stage string }
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			t.Fatal(err)
		}
		if k.Stage == "active" {
			return k.Kid
		}
	}
	t.Fatal("no key is active")
	return ""
}

func grep(text, word string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// compareBoards compares what all instances of usersvc show of everybody's bookings, including a
// new one.
func compareBoards(t testing.TB, p ports, at []ports, users []*session) {
	t.Helper()
	more := addrs(t, 2)
	fresh := proctest.Begin(t, "usersvc", "--nats-url", "nats://"+p.nats, p.key("usersvc"), "--request-limit", "0",
		"--user-addr", more[0], "--ops-addr", more[1])
	fresh.Ready(t)
	defer fresh.Kill()
	for i, u := range users {
		want := bookings(t, more[0], u)
		if len(want) == 0 {
			t.Errorf("user %d has no bookings", i)
		}
		for _, where := range at {
			// A board may be a second behind the writes of others.
			wait.Until(t, fmt.Sprintf("the board at %s shows the %d bookings of user %d that a fresh reader finds",
				where.user, len(want), i), func() bool {
				return maps.Equal(bookings(t, where.user, u), want)
			})
		}
	}
}

// bookings returns the states of a user's bookings, as one instance of usersvc shows them.
func bookings(t testing.TB, addr string, u *session) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for before := ""; ; {
		a := mustCall(t, "GET", "http://"+addr+"/bookings?limit=100"+before, "", "Authorization", u.bearer())
		var page struct {
			Bookings []struct {
				ID    string `json:"booking_id"`
				State string `json:"state"`
			} `json:"bookings"`
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != http.StatusOK {
			t.Fatalf("list: %d %s", a.status, a.body)
		}
		for _, b := range page.Bookings {
			found[b.ID] = b.State
		}
		if page.Next == "" {
			return found
		}
		before = "&cursor=" + page.Next
	}
}
