//go:build linux

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

const (
	couples = 6
	// stride is the interval of a couple's rides.
	stride = 100 * time.Millisecond
)

// A crowd books, accepts and cancels rides through the gateway. It sends nothing a second time.
type crowd struct {
	system *system
	stop   context.CancelFunc
	gone   sync.WaitGroup

	mu     sync.Mutex
	took   []time.Duration // by each request
	rounds []int           // of each couple
	acked  map[string]bool // bookings whose three steps, with a key, were answered with 200
	wrong  []string

	// requests without a key: how many were sent and how many had no certain answer, and the
	// bookings of those answered with 200
	sent, unknown int
	hasty         map[string]bool
}

// gather registers the people and lets them ride until the test ends.
func gather(s *system) *crowd {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{system: s, stop: cancel, rounds: make([]int, couples), acked: map[string]bool{},
		hasty: map[string]bool{}}
	s.t.Cleanup(c.rest)
	enter := s.from(alice)
	for i := range couples {
		couple := fmt.Sprintf("couple-%d@example.com", i)
		user, rider := enter.enter(couple, "user"), enter.enter(couple, "raider")
		hasty := enter.enter("hasty-"+couple, "user")
		from := s.from(alice)
		c.every(ctx, func(n int) {
			c.ride(from, user, rider, fmt.Sprintf("%d-%d", i, n))
			c.mu.Lock()
			defer c.mu.Unlock()
			c.rounds[i]++
		})
		c.every(ctx, func(int) { c.book(from, hasty) })
	}
	return c
}

// every does something again and again until the crowd rests.
func (c *crowd) every(ctx context.Context, do func(n int)) {
	c.gone.Go(func() { wait.Every(ctx, stride, do) })
}

// rest stops the crowd and waits for the rides under way.
func (c *crowd) rest() {
	c.stop()
	c.gone.Wait()
}

// timed makes a request and notes how long it took.
func (c *crowd) timed(from client, method, path, body, token, key string) (answer, error) {
	begun := time.Now()
	a, err := from.try(method, path, body, token, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, time.Since(begun))
	return a, err
}

// ride has a couple's booking made, accepted and cancelled, and reads something of each service.
// Each request must be answered with 200 at once.
func (c *crowd) ride(from client, user, rider, key string) {
	step := func(method, path, body, token, key string) (answer, bool) {
		a, err := c.timed(from, method, path, body, token, key)
		if err == nil && a.status == http.StatusOK {
			return a, true
		}
		c.note("%s %s: %d %s %v", method, path, a.status, a.text, err)
		return a, false
	}
	booked, ok := step(http.MethodPost, "/user/book", "{}", user, key)
	if !ok {
		return
	}
	if _, ok = step(http.MethodPost, "/rider/accept-booking", `{"booking_id":"`+booked.ID+`"}`, rider, key); !ok {
		return
	}
	if _, ok = step(http.MethodPost, "/user/bookings/"+booked.ID+"/cancel", "{}", user, key); !ok {
		return
	}
	step(http.MethodGet, "/rider/open-bookings?limit=1", "", rider, "")
	step(http.MethodGet, "/auth/public-key", "", "", "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked[booked.ID] {
		c.wrong = append(c.wrong, "two keys have the booking "+booked.ID)
	}
	c.acked[booked.ID] = true
}

// book books without a key. The gateway may not know the outcome, and says so.
func (c *crowd) book(from client, user string) {
	a, err := c.timed(from, http.MethodPost, "/user/book", "{}", user, "")
	c.mu.Lock()
	c.sent++
	switch {
	case err == nil && a.status == http.StatusOK:
		c.hasty[a.ID] = true
	case err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
		c.unknown++
	default:
		defer c.note("book without a key: %d %s %v", a.status, a.text, err)
	}
	c.mu.Unlock()
}

func (c *crowd) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// rides waits until each couple has done some rounds more.
func (c *crowd) rides(n int) {
	c.system.t.Helper()
	c.mu.Lock()
	before := slices.Clone(c.rounds)
	c.mu.Unlock()
	wait.Until(c.system.t, "all couples ride", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, done := range c.rounds {
			if done < before[i]+n {
				return len(c.wrong) > 0
			}
		}
		return true
	})
}

// TestInstancesAreKilled kills one instance of each service and then the other while people ride.
// Each request with a key is answered with 200 and done once. One without a key is never done
// twice.
func TestInstancesAreKilled(t *testing.T) {
	s := start(t, nil, "--request-limit=0")
	c := gather(s)
	c.rides(5)
	for _, host := range hosts {
		for name := range kinds {
			s.instances[name+host].Kill()
		}
		c.rides(10)
		for name := range kinds {
			s.begin(name, host)
		}
		for name := range kinds {
			s.used(name, host)
		}
	}
	c.rest()

	slices.Sort(c.took)
	t.Logf("%d requests: p50 %v, p99 %v, the slowest %v; of %d bookings without a key %d were left open", len(c.took),
		c.took[len(c.took)/2], c.took[len(c.took)*99/100], c.took[len(c.took)-1], c.sent, c.unknown)
	if len(c.wrong) > 0 {
		t.Errorf("%d requests went wrong: %s", len(c.wrong), strings.Join(c.wrong[:min(5, len(c.wrong))], "; "))
	}
	cancelled, open := s.list("cancelled"), s.list("open")
	if len(cancelled) != len(c.acked) {
		t.Errorf("the ledger has %d bookings with a key, and %d were acknowledged", len(cancelled), len(c.acked))
	}
	if len(open) < len(c.hasty) || len(open) > c.sent {
		t.Errorf("the ledger has %d bookings without a key: %d were acknowledged, and %d sent", len(open), len(c.hasty), c.sent)
	}
	for id := range c.acked {
		if !cancelled[id] {
			t.Errorf("the ledger lacks %s, which has a key", id)
		}
	}
	for id := range c.hasty {
		if !open[id] {
			t.Errorf("the ledger lacks %s, which has no key", id)
		}
	}
}

// used waits until an instance is ready and has answered a request of the gateway.
func (s *system) used(name, host string) {
	s.t.Helper()
	p := s.instances[name+host]
	p.Ready(s.t)
	wait.Until(s.t, "the gateway uses "+name+" at "+host, func() bool { return len(p.Log.Lines(s.t, "request")) > 0 })
}

// list returns the bookings of the ledger in a state.
func (s *system) list(state string) map[string]bool {
	s.t.Helper()
	out := s.run("pillion", append([]string{"bookings", "list", "--state=" + state, "--limit=1000000", "--json"}, s.operator...)...)
	all := map[string]bool{}
	for line := range strings.Lines(out) {
		var b answer
		if err := json.Unmarshal([]byte(line), &b); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		all[b.ID] = true
	}
	return all
}

// TestNoInstance asks a service that has no instance left.
func TestNoInstance(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.from(alice)
	user := c.enter("kim@example.com", "user")
	for _, host := range hosts {
		s.instances["usersvc"+host].Kill()
	}
	if a := c.must(http.StatusServiceUnavailable, http.MethodPost, "/user/book", "{}", user, "1"); a.Code != "outcome_unknown" ||
		a.header.Get("Retry-After") == "" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the answer is %q with %v", a.text, a.header)
	}
	if a := c.must(http.StatusServiceUnavailable, http.MethodPost, "/user/book", "{}", user, "1", "Accept",
		"text/plain"); !strings.HasPrefix(a.text, "No instance has confirmed") {
		t.Errorf("the answer is %q with %v", a.text, a.header)
	}
	c.must(http.StatusOK, http.MethodGet, "/rider/bookings", "", c.enter("kim@example.com", "raider"), "")
}
