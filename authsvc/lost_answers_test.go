package authsvc_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
)

// Of several simultaneous uses of a token one rotates the session, and all answers have the same
// successor.
func TestParallelUses(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
	}{{"with grace", 0}, {"without", -1}} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, withRules(session.Rules{Grace: c.grace}))
			first := k.kim(t)
			const clients = 32
			var (
				wg    sync.WaitGroup
				start = make(chan struct{})
				mu    sync.Mutex
				given = make(map[string]int)
				codes = make(map[int]int)
			)
			for range clients {
				wg.Go(func() {
					<-start
					w := k.do(refreshWith(first.Refresh))
					mu.Lock()
					defer mu.Unlock()
					codes[w.Code]++
					if w.Code == http.StatusOK {
						given[tokensOf(t, w).Refresh]++
					}
				})
			}
			close(start)
			wg.Wait()
			if len(given) != 1 {
				t.Errorf("%d successors: %v", len(given), codes)
			}
			if c.grace >= 0 {
				if codes[200] != clients {
					t.Errorf("answers = %v, want %d of 200", codes, clients)
				}
				for refresh := range given {
					k.mustRefresh(t, refresh)
				}
				return
			}
			if codes[200] != 1 || codes[401] != clients-1 {
				t.Errorf("answers = %v, want one of 200", codes)
			}
			for refresh := range given {
				k.wantNoRefresh(t, refresh) // a token was used twice, and there is no grace
			}
		})
	}
}

// lossy is a store that may lose writes, or their acknowledgements.
type lossy struct {
	*authtest.Sessions
	mu     sync.Mutex
	drop   int // how many of the next writes do not arrive
	deafen int // how many of the next writes after those are stored and not acknowledged

	slow time.Duration // what each read takes
	away time.Time     // until when reads fail, from the next write on that is not acknowledged
	gone bool          // whether they do
}

func (s *lossy) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	value, revision, err := s.Sessions.Get(ctx, key)
	s.mu.Lock()
	gone := s.gone && time.Now().Before(s.away)
	s.mu.Unlock()
	if gone {
		after(time.Second)
		return nil, 0, bus.ErrUnavailable.Because(errors.New("no leader"))
	}
	after(s.slow)
	return value, revision, err
}

func (s *lossy) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop > 0 {
		s.drop--
		return 0, bus.ErrUnavailable.Because(errors.New("dropped"))
	}
	revision, err := s.Sessions.Update(ctx, key, value, revision)
	if s.deafen > 0 {
		s.deafen--
		s.gone = true
		return 0, bus.ErrUnavailable.Because(errors.New("the acknowledgement got lost"))
	}
	return revision, err
}

// A slow store logs nobody out, with or without a grace.
func TestUnknownOutcomes(t *testing.T) {
	for _, c := range []struct {
		name         string
		grace        time.Duration
		drop, deafen int
		answered     bool
	}{
		{"a write is lost", 0, 2, 0, true},
		{"an acknowledgement is lost", 0, 0, 1, true},
		{"an acknowledgement is lost, without grace", -1, 0, 1, true},
		{"both", -1, 1, 1, true},
		{"the store is away", 0, 1 << 20, 0, false},
		{"the store is away, without grace", -1, 1 << 20, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &lossy{Sessions: new(authtest.Sessions)}
				k := newKit(t, withRules(session.Rules{Grace: c.grace}),
					func(a *authsvc.Config, _ *authsvc.HasherConfig) { a.Sessions = store })
				kim := k.kim(t)
				store.drop, store.deafen = c.drop, c.deafen
				if !c.answered {
					start := time.Now()
					w := k.ask(t, refreshWith(kim.Refresh), http.StatusServiceUnavailable, "try again")
					if w.Header().Get("Retry-After") == "" || time.Since(start) > 20*time.Second {
						t.Errorf("503 with Retry-After %q after %v", w.Header().Get("Retry-After"), time.Since(start))
					}
					store.drop = 0
				}
				kim = k.mustRefresh(t, kim.Refresh)
				k.mustRefresh(t, kim.Refresh)
				if got := k.revoked.take(); got != nil {
					t.Errorf("revoked %v", got)
				}
			})
		})
	}
}

// If the service answers late, the grace begins with the answer. Repeating the request does not
// extend it for anybody else.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &lossy{Sessions: new(authtest.Sessions)}
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = store })
		kim := k.kim(t)
		store.slow = 8 * time.Second
		next := k.mustRefresh(t, kim.Refresh)
		for range 2 {
			store.slow = 0
			after(9 * time.Second)
			store.slow = 4 * time.Second // it is stored that late, or heard of that late
			if again := k.mustRefresh(t, kim.Refresh); again.Refresh != next.Refresh {
				t.Error("another successor")
			}
		}
		store.slow = 0
		after(9 * time.Second)
		k.mustRefresh(t, kim.Refresh)
		after(time.Second + 1)
		k.wantNoRefresh(t, kim.Refresh)
	})
}

// If the store was unavailable for longer than the grace, a refresh whose answer was lost can be
// repeated until the grace after that. This also holds at an instance that has just started, and
// without a grace. An interruption that begins after the grace changes nothing.
func TestInterruptions(t *testing.T) {
	for _, c := range []struct {
		name      string
		restarted bool
		grace     time.Duration
	}{
		{"seen", false, 0}, {"an instance that has just started", true, 0},
		{"seen, without grace", false, -1}, {"an instance that has just started, without grace", true, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &lossy{Sessions: new(authtest.Sessions)}
				accounts := new(authtest.Accounts)
				start := func() *kit {
					return newKit(t, withStore(accounts), withRules(session.Rules{Grace: c.grace}),
						func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = store })
				}
				k := start()
				after(time.Minute)
				kim := k.kim(t)
				store.deafen, store.away = 1, time.Now().Add(25*time.Second)
				for time.Now().Before(store.away) {
					k.ask(t, refreshWith(kim.Refresh), http.StatusServiceUnavailable, "try again")
				}
				if c.restarted {
					k = start()
				}
				after(8 * time.Second)
				next := k.mustRefresh(t, kim.Refresh)
				after(time.Second)
				if again := k.mustRefresh(t, kim.Refresh); again.Refresh != next.Refresh {
					t.Error("another successor")
				}
				after(10 * time.Second)
				k.mustRefresh(t, next.Refresh)
				after(10*time.Second + 1)
				store.away = time.Now().Add(5 * time.Second)
				k.ask(t, refreshWith(next.Refresh), http.StatusServiceUnavailable, "try again")
				after(10 * time.Second)
				k.wantNoRefresh(t, next.Refresh)
			})
		})
	}
}

// A client that used a token in time and was not answered is not a thief when it comes back, at
// any instance, however late. A client that comes for the first time then is one.
func TestUnansweredIsNoTheft(t *testing.T) {
	leave := func(r *http.Request) *http.Request {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		return r.WithContext(ctx)
	}
	limited := func(t *testing.T) func(*authsvc.Config, *authsvc.HasherConfig) {
		limits := throttle.DefaultLimits()
		limits.Refreshes = throttle.BackoffPolicy{Free: 1, FirstWait: 40 * time.Second, LongestWait: time.Minute,
			ForgetAfter: time.Hour}
		g, err := throttle.New(throttle.Config{Counters: new(bucket), Familiar: new(bucket), Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		return func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Throttle = g }
	}
	away := func(*testing.T) func(*authsvc.Config, *authsvc.HasherConfig) {
		return withStore(brokenStore{bus.ErrUnavailable})
	}
	broken := func(*testing.T) func(*authsvc.Config, *authsvc.HasherConfig) {
		return withStore(brokenStore{errors.New("broken")})
	}
	as := func(r *http.Request) *http.Request { return r }
	for _, c := range []struct {
		name string
		// Of the instance that does not answer.
		trouble func(*testing.T) func(*authsvc.Config, *authsvc.HasherConfig)
		ask     func(*http.Request) *http.Request
		status  int
		first   bool // whether that is before the token was exchanged, or after
	}{
		{"refreshed too often", limited, as, http.StatusTooManyRequests, false},
		{"refreshed too often, before another tab was answered", limited, as, http.StatusTooManyRequests, true},
		{"accounts are away", away, as, http.StatusServiceUnavailable, false},
		{"accounts are broken", broken, as, http.StatusInternalServerError, false},
		{"the client gave up", away, leave, 499, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accounts, sessions := new(authtest.Accounts), new(authtest.Sessions)
				share := func(c *authsvc.Config, _ *authsvc.HasherConfig) {
					c.Accounts, c.Sessions = accounts,
						sessions
				}
				k, other, troubled := newKit(t, share), newKit(t, share), newKit(t, share, c.trouble(t))
				kim := k.kim(t)
				tim, ada := k.mustOpen(t, "kim@example.com", goodPassword, "user"),
					k.mustOpen(t, "kim@example.com", goodPassword, "user")
				troubled.do(refreshWith(ada.Refresh)) // which is one too many for the next one
				k.mustRefresh(t, tim.Refresh)
				wait := 9 * time.Second
				unanswered := func() {
					after(9 * time.Second)
					w := troubled.do(c.ask(refreshWith(kim.Refresh)))
					if w.Code != c.status {
						t.Errorf("in trouble: %d %s, want %d", w.Code, w.Body, c.status)
					}
					if told, err := strconv.Atoi(w.Header().Get("Retry-After")); err == nil {
						wait += time.Duration(told) * time.Second
					}
				}
				if c.first {
					unanswered()
				}
				next := k.mustRefresh(t, kim.Refresh)
				if !c.first {
					unanswered()
				}
				after(wait)
				if again := other.mustRefresh(t, kim.Refresh); again.Refresh != next.Refresh {
					t.Error("another successor")
				}
				other.mustRefresh(t, next.Refresh)
				other.wantNoRefresh(t, tim.Refresh)
			})
		})
	}
}

// A bucket is a key-value bucket in memory.
type bucket struct{ authtest.Sessions }

func (b *bucket) Erase(ctx context.Context, key string, revision uint64) error {
	return b.Delete(ctx, key, revision)
}

func (b *bucket) Keys(context.Context) ([]string, error) { return b.Sessions.Keys(), nil }
