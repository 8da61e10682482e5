package authsvc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// A door distributes requests among instances, which can be replaced.
type door struct {
	mu        sync.RWMutex
	instances []http.Handler
	next      atomic.Int64
}

// ServeHTTP gives each request to the next instance.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.RLock()
	h := d.instances[int(d.next.Add(1))%len(d.instances)]
	d.mu.RUnlock()
	h.ServeHTTP(w, r)
}

func (d *door) set(instances ...http.Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instances = instances
}

// A caller is a client of the door. It repeats a request as long as the answer is 503.
type caller struct {
	t     *testing.T
	door  http.Handler
	busy  *atomic.Int64 // answers of 503
	limit time.Time
}

// refresh uses a refresh token until the answer is final, and returns it.
func (c caller) refresh(presented string) (int, tokens) {
	body, _ := json.Marshal(map[string]string{"refresh_token": presented})
	for {
		r := httptest.NewRequest(http.MethodPost, "/refresh", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		c.door.ServeHTTP(w, r)
		switch {
		case w.Code == http.StatusServiceUnavailable && time.Now().Before(c.limit):
			c.busy.Add(1)
		case w.Code == http.StatusOK:
			return w.Code, tokensOf(c.t, w)
		default:
			return w.Code, tokens{}
		}
	}
}

// together uses one token several times at once.
func (c caller) together(presented string, times int) (codes map[int]int, given map[string]bool) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	codes, given = make(map[int]int), make(map[string]bool)
	for range times {
		wg.Go(func() {
			code, got := c.refresh(presented)
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
			if code == http.StatusOK {
				given[got.Refresh] = true
			}
		})
	}
	wg.Wait()
	return codes, given
}

// TestRefreshChains drives sessions, 200 of them in CI, through every kind of race. It uses two
// instances that are replaced halfway, on one replica and on three whose leader steps down every
// second. No session forks, no honest client is logged out, and no thief gets a token.
func TestRefreshChains(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some 10 seconds")
	}
	const steps = 6
	chains := 12
	if wait.Long() {
		chains = 200
	}
	accounts, begun, first := logins(t, chains)
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		bucket := e.Connect(t).Bucket(bus.SessionsBucket)
		for _, id := range begun.Keys() {
			value, _, err := begun.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bucket.Create(t.Context(), id, value); err != nil {
				t.Fatal(err)
			}
		}
		var revoked atomic.Int64
		instance := func() http.Handler {
			conn := e.Connect(t)
			k := newKit(t, withStore(accounts), func(c *authsvc.Config, _ *authsvc.HasherConfig) {
				c.Sessions = conn.Bucket(bus.SessionsBucket)
				c.Log = slog.New(slog.DiscardHandler)
				c.Revoke = func(ctx context.Context, r token.Revocation) error {
					revoked.Add(1)
					return bustest.Authority(conn).Revoke(ctx, r)
				}
			})
			return k.handler
		}
		at := new(door)
		at.set(instance(), instance())

		ctx, stop := context.WithCancel(t.Context())
		var background sync.WaitGroup
		stepDowns := e.StepDowns(t, bus.BucketStream(bus.SessionsBucket), time.Second)
		defer func() { stop(); background.Wait() }()

		var (
			wg   sync.WaitGroup
			busy atomic.Int64
			refreshed,
			thefts atomic.Int64
			replaced = make(chan struct{})
		)
		for i := range chains {
			wg.Go(func() {
				c := caller{t: t, door: at, busy: &busy, limit: time.Now().Add(5 * time.Minute)}
				rnd := rand.New(rand.NewPCG(7, uint64(i)))
				fail := func(format string, args ...any) { t.Errorf("chain %d: "+format, append([]any{i}, args...)...) }

				history := []string{first[i]}
				made := map[string]string{} // by the token it was made from
				for step := range steps {
					if step == steps/2 {
						<-replaced
					}
					now := history[len(history)-1]
					uses := 1
					if rnd.IntN(3) == 0 {
						uses = 2 + rnd.IntN(4) // tabs that wake up together
					}
					codes, given := c.together(now, uses)
					if codes[http.StatusOK] != uses || len(given) != 1 {
						fail("step %d: %d uses of one token gave %v and %d successors", step, uses, codes, len(given))
						return
					}
					for next := range given {
						made[now] = next
						history = append(history, next)
					}
					refreshed.Add(1)
					if rnd.IntN(3) == 0 { // the answer got lost: at once, or a moment later
						if rnd.IntN(2) == 0 {
							await(t, time.Duration(rnd.IntN(300))*time.Millisecond)
						}
						if code, again := c.refresh(now); code != http.StatusOK || again.Refresh != made[now] {
							fail("step %d: a lost answer asked again = %d, the same: %v", step, code,
								again.Refresh == made[now])
							return
						}
					}
				}
				last := history[len(history)-1]
				if i%4 != 0 { // honest to the end
					if code, _ := c.refresh(last); code != http.StatusOK {
						fail("the last token = %d", code)
					}
					return
				}
				// A copy of an old token, in parallel with itself, and with its owner's.
				thefts.Add(1)
				stolen := history[rnd.IntN(len(history)-2)]
				codes, given := c.together(stolen, 1+rnd.IntN(4))
				if len(given) != 0 || codes[http.StatusUnauthorized] == 0 {
					fail("a stolen token was answered with %v", codes)
				}
				for _, old := range []string{last, stolen, history[0]} {
					if code, _ := c.refresh(old); code != http.StatusUnauthorized {
						fail("after a theft a token = %d, want 401", code)
					}
				}
			})
		}
		// All instances are replaced while requests are under way: they keep nothing.
		background.Go(func() {
			for refreshed.Load() < int64(chains*steps/2) && ctx.Err() == nil && !t.Failed() {
				await(t, 5*time.Millisecond)
			}
			at.set(instance(), instance())
			close(replaced)
		})
		start := time.Now()
		wg.Wait()
		if revoked.Load() < thefts.Load() {
			t.Errorf("%d sessions were revoked, want all %d that were stolen", revoked.Load(), thefts.Load())
		}
		t.Logf("%d chains, %d refreshes, %d thefts, %d step-downs, %d answers of 503, in %v", chains, refreshed.Load(),
			thefts.Load(), stepDowns(), busy.Load(),
			time.Since(start).Round(time.Millisecond))
	})
}

// logins returns a store with that many sessions, and the first refresh token of each. It hashes
// in memory, because hashing is not the subject of the test.
func logins(t *testing.T, n int) (accounts *authtest.Accounts, begun *authtest.Sessions, first []string) {
	t.Helper()
	accounts, begun = new(authtest.Accounts), new(authtest.Sessions)
	k := newKit(t, withStore(accounts), func(c *authsvc.Config, p *authsvc.HasherConfig) {
		c.Sessions, p.Concurrent, p.Queue, p.Wait = begun, runtime.GOMAXPROCS(0), n, time.Minute
	})
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	first = make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			first[i] = tokensOf(t, k.do(post("/login", body("kim@example.com", goodPassword, "user")))).Refresh
		})
	}
	wg.Wait()
	return accounts, begun, first
}

// await lets real time pass.
func await(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
