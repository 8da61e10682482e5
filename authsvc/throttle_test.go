package authsvc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
)

// A clock stands still until a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// throttled returns an edit for newKit: the instance counts tries in the buckets that conn
// reaches.
func throttled(t testing.TB, conn *bus.Conn, now func() time.Time,
	edits ...func(*throttle.Limits)) func(*authsvc.Config, *authsvc.HasherConfig) {
	t.Helper()
	limits := throttle.DefaultLimits()
	for _, edit := range edits {
		edit(&limits)
	}
	g, err := throttle.New(throttle.Config{
		Counters: conn.Bucket(bus.LimitsBucket), Familiar: conn.Bucket(bus.FamiliarBucket), Limits: limits, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Throttle = g }
}

// from returns r as if it came from that address.
func from(address string, r *http.Request) *http.Request {
	r.RemoteAddr = address + ":1234"
	return r
}

// wantLimited fails t unless the answer is 429 with that many seconds to wait, and says nothing
// else.
func wantLimited(t *testing.T, w *httptest.ResponseRecorder, seconds string) {
	t.Helper()
	if w.Code != http.StatusTooManyRequests || w.Body.String() != throttle.ErrLimited.Message ||
		w.Header().Get("Retry-After") != seconds {
		t.Errorf("answer %d %q, Retry-After %q, want 429 and %s", w.Code, w.Body, w.Header().Get("Retry-After"),
			seconds)
	}
}

// Of a hundred simultaneous wrong tries on two instances, exactly the allowed number is
// evaluated, whether or not the account exists.
func TestExactlyTheAllowedAreEvaluated(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		accounts, clock := new(authtest.Accounts), newClock()
		var instances []*kit
		for range 2 {
			instances = append(instances, newKit(t, withStore(accounts), throttled(t, e.Connect(t), clock.time)))
		}
		instances[0].mustRegister(t, "kim@example.com", goodPassword, "user")
		instances[0].hashes.take()
		var said []string
		for _, email := range []string{"kim@example.com", "nobody@example.com"} {
			for round, want := range []int{5, 1, 1} {
				var mu sync.Mutex
				statuses := make(map[int]int)
				var all sync.WaitGroup
				for i := range 100 {
					all.Go(func() {
						w := instances[i%2].do(from(fmt.Sprintf("192.0.2.%d", i),
							post("/login", body(email, "wrong password", "user"))))
						mu.Lock()
						defer mu.Unlock()
						statuses[w.Code]++
						if w.Code == http.StatusTooManyRequests && i == 99 {
							said = append(said, w.Body.String()+w.Header().Get("Retry-After"))
						}
					})
				}
				all.Wait()
				evaluated := len(instances[0].hashes.take()) + len(instances[1].hashes.take())
				// On a machine that is busy with other things some wait too long for their turn,
				// and get 503: never more than are allowed.
				gaveUp := statuses[http.StatusServiceUnavailable]
				if evaluated > want || evaluated < want && gaveUp == 0 ||
					statuses[http.StatusUnauthorized] != evaluated ||
					statuses[http.StatusTooManyRequests]+gaveUp != 100-evaluated {
					t.Errorf("%s, round %d: %d evaluated, answers %v, want %d", email, round+1, evaluated, statuses,
						want)
				}
				// Longer than any wait, and not long enough to be forgotten.
				clock.forward(time.Hour / 2)
			}
		}
		for _, s := range said {
			if !strings.HasPrefix(s, throttle.ErrLimited.Message) {
				t.Errorf("somebody was told %q", s)
			}
		}
	})
}

func TestWaitsGrow(t *testing.T) {
	clock := newClock()
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), clock.time))
	for _, email := range []string{"kim@example.com", "nobody@example.com"} {
		if email == "kim@example.com" {
			k.mustRegister(t, email, goodPassword, "user")
		}
		login := func(password string) *httptest.ResponseRecorder {
			return k.do(post("/login", body(email, password, "user")))
		}
		for range 5 {
			if w := login("wrong password"); w.Code != http.StatusUnauthorized {
				t.Fatalf("a free try: %d %s", w.Code, w.Body)
			}
		}
		for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
			wantLimited(t, login("wrong password"), fmt.Sprint(seconds))
			// Nor does it tell that this would be the right one.
			wantLimited(t, login(goodPassword), fmt.Sprint(seconds))
			clock.forward(time.Duration(seconds)*time.Second - time.Millisecond)
			// What is refused makes nobody wait for longer.
			wantLimited(t, login("wrong password"), "1")
			clock.forward(time.Millisecond)
			if w := login("wrong password"); w.Code != http.StatusUnauthorized {
				t.Fatalf("after %d s: %d %s", seconds, w.Code, w.Body)
			}
		}
		clock.forward(time.Hour)
		for range 5 {
			if w := login("wrong password"); w.Code != http.StatusUnauthorized {
				t.Errorf("after an hour of quiet: %d %s", w.Code, w.Body)
			}
		}
		clock.forward(time.Hour)
	}
}

// However often somebody guesses, an account counts once an hour. So what counts is on how many
// accounts passwords are tried, which no limit of an account shows.
func TestRefusedAccountsAreCounted(t *testing.T) {
	clock := newClock()
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), clock.time))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	counted := func(want int) {
		t.Helper()
		expected := fmt.Sprintf("# HELP pillion_login_refused_accounts_total Accounts, existing or not, that were "+
			"refused a login for the first time in an hour.\n# TYPE pillion_login_refused_accounts_total counter\n"+
			"pillion_login_refused_accounts_total %d\n", want)
		if err := testutil.GatherAndCompare(k.registry, strings.NewReader(expected),
			"pillion_login_refused_accounts_total"); err != nil {
			t.Error(err)
		}
	}
	k.do(post("/login", body("kim@example.com", goodPassword, "user")))
	counted(0)
	for _, email := range []string{"kim@example.com", "nobody@example.com", "kim@example.com", "nobody@example.com"} {
		k.do(post("/login", body(email, "wrong password", "user")))
	}
	counted(2)
	clock.forward(time.Hour)
	k.do(post("/login", body("kim@example.com", "wrong password", "user")))
	counted(3)
}

// The right password clears the wrong tries of its account, but not those of the network.
func TestSuccessForgivesTheAccountOnly(t *testing.T) {
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), newClock().time,
		func(l *throttle.Limits) { l.Address.Free = 20 }))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.mustRegister(t, "mal@example.com", goodPassword, "user")
	login := func(email, password string) *httptest.ResponseRecorder {
		return k.do(from("192.0.2.66", post("/login", body(email, password, "user"))))
	}
	for round := range 2 {
		for range 4 {
			if w := login("kim@example.com", "wrong password"); w.Code != http.StatusUnauthorized {
				t.Fatalf("round %d: %d %s", round, w.Code, w.Body)
			}
		}
		if w := login("kim@example.com", goodPassword); w.Code != http.StatusOK {
			t.Fatalf("round %d: the right password after four wrong ones: %d %s", round, w.Code, w.Body)
		}
	}
	// Eight wrong ones count against the address, even if others log in from there with success.
	for n := range 12 {
		if w := login("mal@example.com", goodPassword); w.Code != http.StatusOK {
			t.Fatalf("%d: %d %s", n, w.Code, w.Body)
		}
		if w := login(fmt.Sprintf("victim-%d@example.com", n), "guessed password"); w.Code != http.StatusUnauthorized {
			t.Fatalf("%d: %d %s", n, w.Code, w.Body)
		}
	}
	wantLimited(t, login("one.more@example.com", "guessed password"), "1")
}

// A try that the account's limit refuses does not count against its network.
func TestTriesRefusedForTheAccount(t *testing.T) {
	clock := newClock()
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), clock.time,
		func(l *throttle.Limits) { l.Account.Free, l.Address.Free = 2, 4 }))
	login := func(email string) *httptest.ResponseRecorder {
		return k.do(post("/login", body(email, "wrong password", "user")))
	}
	wrong := func(email string) {
		t.Helper()
		if w := login(email); w.Code != http.StatusUnauthorized {
			t.Fatalf("%s: %d %s", email, w.Code, w.Body)
		}
	}
	wrong("kim@example.com")
	wrong("kim@example.com")
	for range 20 {
		wantLimited(t, login("kim@example.com"), "1")
	}
	wrong("one@example.com")
	wrong("two@example.com")
	wantLimited(t, login("three@example.com"), "1") // four tries have been made from here
}

// The right password of a pending account is not a wrong try, however often it is sent.
func TestWaitingForApprovalIsNoWrongTry(t *testing.T) {
	k := newKit(t, withApproval,
		throttled(t, bustest.Run(t).Connect(t), newClock().time, func(l *throttle.Limits) { l.Address.Free = 10 }))
	k.ask(t, post("/register", body("rita@example.com", goodPassword, "raider")), http.StatusCreated, `"pending":true`)
	for n := range 12 {
		if w := k.do(post("/login", body("rita@example.com", goodPassword,
			"raider"))); w.Code != http.StatusForbidden || w.Body.String() != authsvc.ErrPending.Message {
			t.Fatalf("login %d: %d %s", n, w.Code, w.Body)
		}
	}
	for range 5 {
		wantRefused(t, k.do(post("/login", body("rita@example.com", "wrong password", "raider"))))
	}
	wantLimited(t, k.do(post("/login", body("rita@example.com", "wrong password", "raider"))), "1")
}

// Endless tries by strangers lock out neither an owner on a familiar network, nor a session.
func TestStrangersLockNobodyOut(t *testing.T) {
	clock := newClock()
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), clock.time))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	login := func(address, password string) *httptest.ResponseRecorder {
		return k.do(from(address, post("/login", body("kim@example.com", password, "user"))))
	}
	open := tokensOf(t, login("192.0.2.1", goodPassword))
	for n := range 8 {
		login(fmt.Sprintf("198.51.100.%d", n), "wrong password")
	}
	wantLimited(t, login("203.0.113.5", goodPassword), "1") // Kim elsewhere has to wait
	if w := login("192.0.2.1", goodPassword); w.Code != http.StatusOK {
		t.Errorf("Kim at home: %d %s", w.Code, w.Body)
	}
	if w := k.do(from("198.51.100.1", refreshWith(open.Refresh))); w.Code != http.StatusOK {
		t.Errorf("Kim's refresh, even from where the strangers are: %d %s", w.Code, w.Body)
	}
	for range 5 {
		login("192.0.2.1", "wrong password")
	}
	// At home wrong passwords are counted as well.
	wantLimited(t, login("192.0.2.1", "wrong password"), "1")
}

func TestRegistrationsAndRefreshesAreLimited(t *testing.T) {
	clock := newClock()
	k := newKit(t, throttled(t, bustest.Run(t).Connect(t), clock.time, func(l *throttle.Limits) {
		l.Registrations.Free, l.Refreshes.Free, l.Address.Free = 3, 3, 3
	}))
	for n := range 3 {
		k.mustRegister(t, fmt.Sprintf("kim%d@example.com", n), goodPassword, "user")
	}
	k.hashes.take()
	wantLimited(t, k.ask(t, post("/register", body("kim4@example.com", goodPassword, "user")),
		http.StatusTooManyRequests, ""), "1")
	if n := len(k.hashes.take()); n != 0 {
		t.Errorf("%d hashes for a registration that was refused", n)
	}

	open := k.mustOpen(t, "kim0@example.com", goodPassword, "user")
	const junk = "kimkimkimkimkimkimkimkimki.1.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	forged := open.Refresh[:len(open.Refresh)-4] + "AAAA"
	for range 3 {
		k.wantNoRefresh(t, forged)
	}
	k.wantNoRefresh(t, junk) // no token at all costs nothing, and counts for nothing
	wantLimited(t, k.ask(t, refreshWith(forged), http.StatusTooManyRequests, ""), "1")
	for range 3 { // from the same network: a good token waits for nobody's bad ones
		open = k.mustRefresh(t, open.Refresh)
	}
	wantLimited(t, k.do(refreshWith(open.Refresh)), "1")
	clock.forward(time.Second)
	if w := k.do(refreshWith(open.Refresh)); w.Code != http.StatusOK { // and nothing is lost
		t.Errorf("after the wait: %d %s", w.Code, w.Body)
	}
}

// A try that was not evaluated does not count.
func TestTriesThatFoundNothingOut(t *testing.T) {
	k := newKit(t, withStore(brokenStore{bus.ErrUnavailable}), throttled(t, bustest.Run(t).Connect(t), newClock().time))
	for range 20 {
		if w := k.do(post("/login",
			body("kim@example.com", goodPassword, "user"))); w.Code != http.StatusServiceUnavailable {
			t.Fatalf("while the accounts are away: %d %s", w.Code, w.Body)
		}
	}
}

// Without its bucket the throttle lets nothing pass, and the answer says when to try again.
func TestThrottleWithoutItsBucket(t *testing.T) {
	t.Parallel() // most of it is waiting
	conn := bustest.Run(t).Connect(t)
	k := newKit(t, throttled(t, conn, time.Now))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.hashes.take()
	conn.Close(t.Context())
	var all sync.WaitGroup
	for _, r := range []*http.Request{
		post("/login", body("kim@example.com", goodPassword, "user")),
		post("/register", body("new@example.com", goodPassword, "user")),
	} {
		all.Go(func() {
			if w := k.do(r); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", r.URL.Path, w.Code, w.Body)
			}
		})
	}
	all.Wait()
	if n := len(k.hashes.take()); n != 0 {
		t.Errorf("%d passwords were evaluated", n)
	}
}

// Clients behind a proxy that does not name them share no counter, and have no familiar network.
// The limits of accounts still hold.
func TestUnknownNetworks(t *testing.T) {
	clock, conn := newClock(), bustest.Run(t).Connect(t)
	few := throttle.BackoffPolicy{Free: 1, FirstWait: time.Minute, LongestWait: time.Minute, ForgetAfter: time.Hour}
	k := newKit(t, throttled(t, conn, clock.time, func(l *throttle.Limits) { l.Address, l.Registrations = few, few }),
		func(c *authsvc.Config, _ *authsvc.HasherConfig) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		})
	ask := func(r *http.Request) int {
		r.Header.Set("X-Forwarded-For", "unknown")
		return k.do(from("10.1.2.3", r)).Code
	}
	for i := range 5 {
		if code := ask(post("/register",
			body(fmt.Sprintf("kim%d@example.com", i), goodPassword, "user"))); code != http.StatusCreated {
			t.Fatalf("account %d: %d", i, code)
		}
		if code := ask(post("/login",
			body(fmt.Sprintf("kim%d@example.com", i), "wrong password", "user"))); code != http.StatusUnauthorized {
			t.Fatalf("a wrong password for account %d: %d", i, code)
		}
		if code := ask(refreshWith("nonsense")); code != http.StatusUnauthorized {
			t.Fatalf("a bad refresh token, %d: %d", i, code)
		}
	}
	if code := ask(post("/login", body("kim0@example.com", goodPassword, "user"))); code != http.StatusOK {
		t.Errorf("the right password: %d", code)
	}
	if keys, err := conn.Bucket(bus.FamiliarBucket).Keys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("familiar: %v, %v", keys, err)
	}
	for range 5 {
		ask(post("/login", body("kim1@example.com", "wrong password", "user")))
	}
	if code := ask(post("/login", body("kim1@example.com", goodPassword, "user"))); code != http.StatusTooManyRequests {
		t.Errorf("after six wrong passwords for one account: %d", code)
	}
}
