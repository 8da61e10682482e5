package load_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/load"
)

// config returns a load on fake services without a network. In a synctest bubble its clock is
// exact.
func config(f *fake) load.Config {
	at := []string{"http://pillion.example"}
	return load.Config{
		Auth: at, User: at, Rider: at, Users: 10, Riders: 1, Rate: 100, Duration: 2 * time.Second, Think: time.Second,
		Seed:    1,
		Weights: &load.Weights{}, HTTP: &http.Client{Transport: f}, Record: true,
	}
}

func run(t *testing.T, c load.Config) *load.Report {
	t.Helper()
	r, err := load.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStallShows lets a service stall for a second: all bookings due within that second must show
// it. A closed-loop load would show it in ten of two hundred bookings only, one per user.
func TestStallShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &fake{}
		f.say = map[string]http.HandlerFunc{"POST /book": func(w http.ResponseWriter, r *http.Request) {
			if since := time.Since(began); since >= 500*time.Millisecond && since < 1500*time.Millisecond {
				<-time.After(1500*time.Millisecond - since)
			}
			answer(w, http.StatusOK, map[string]any{"booking_id": keyed(r)})
		}}
		r := run(t, config(f))
		l := r.Operations[load.Book].Latency
		if l.Count != 200 || r.Dropped != 0 || r.Events[booking.Requested] != 200 {
			t.Errorf("%d bookings, %d dropped, %d acknowledged; want 200, none and 200", l.Count, r.Dropped,
				r.Events[booking.Requested])
		}
		// Half of all bookings were due in that second, and waited for its end: a quarter for less
		// than half a second, a quarter for more.
		if !near(l.P90, 800) || !near(l.P99, 980) || !near(l.Max, 1000) || l.P50 > 20 {
			t.Errorf("%+v, want 0, 800, 980 and at most 1,000 ms", l)
		}
		for _, call := range r.Calls {
			if call.Op == load.Book && !call.Start.Equal(call.Due) {
				t.Fatalf("a booking was due at %v and requested at %v", call.Due, call.Start)
			}
		}
		if !r.Good() {
			t.Errorf("slow answers are no violations: %+v", r.Violations)
		}
	})
}

func near(got, want float64) bool { return got > want*0.98 && got < want*1.02 }

// TestObeysRetryAfter answers one user with Retry-After: that user must wait as long, the latency
// counts from the due time, and others continue.
func TestObeysRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(map[string]time.Time)
		f := &fake{}
		c := config(f)
		c.Rate, c.Users, c.Duration = 10, 2, time.Second
		first := ""
		f.say = map[string]http.HandlerFunc{"POST /book": func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			who := caller(r)
			if first == "" {
				first, told[who] = who, time.Now()
				w.Header().Set("Retry-After", "3")
				refuse(w, http.StatusServiceUnavailable, "away")
				return
			}
			if at, ok := told[who]; ok && time.Since(at) < 3*time.Second {
				t.Errorf("back after %v", time.Since(at))
			}
			answer(w, http.StatusOK, map[string]any{"booking_id": keyed(r)})
		}}
		r := run(t, c)
		book := r.Operations[load.Book]
		if book.Answers["200"] != 10 || book.Answers["503 away"] != 1 || book.Steps[load.Done] != 10 || !r.Good() {
			t.Errorf("%+v, %+v", book, r.Violations)
		}
		// Five of ten bookings are of the user who waits: due at 0, 200 … 800 ms, and requested at
		// 3 s.
		if !near(book.Latency.Max, 3000) || !near(book.Latency.P90, 2800) || book.Latency.P50 > 10 ||
			book.Answer.Max > 10 {
			t.Errorf("%+v, want 0 to 3,000 ms; and answers %+v", book.Latency, book.Answer)
		}
		keys := make(map[string]int)
		for _, call := range r.Calls {
			if call.Op == load.Book {
				keys[call.Key]++
			}
		}
		if len(keys) != 10 {
			t.Errorf("%d keys for ten bookings", len(keys))
		}
	})
}

// TestDrops exceeds Config.InFlight: the bookings beyond it are dropped and counted.
func TestDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.say = map[string]http.HandlerFunc{"POST /book": func(w http.ResponseWriter, r *http.Request) {
			<-time.After(5 * time.Second)
			answer(w, http.StatusOK, map[string]any{"booking_id": keyed(r)})
		}}
		c := config(f)
		c.InFlight = 30
		r := run(t, c)
		if r.Dropped != 170 || r.Operations[load.Book].Calls != 30 || r.Seconds != 2 {
			t.Errorf("%d dropped and %d requested in %g s, want 170 and 30 in 2", r.Dropped,
				r.Operations[load.Book].Calls, r.Seconds)
		}
	})
}

// TestAnswers tells violations from expected refusals.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		call    string
		say     http.HandlerFunc
		outcome load.Outcome
		good    bool
	}{
		{"500", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "internal") }, load.Violation, false},
		{"503 without Retry-After", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "away") }, load.Violation, false},
		{"429 without Retry-After", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "limited") }, load.Violation, false},
		{"a reused key", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 422, "key_reused") }, load.Violation, false},
		{"a refused token that has not expired", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "invalid_token") }, load.Violation, false},
		{"an expired token that cannot have expired", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "token_expired") }, load.Violation, false},
		{"another booking than requested", "POST /book", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"booking_id": booking.NewID()})
		}, load.Violation, false},
		{"no booking", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) }, load.Violation, false},
		{"no JSON", "POST /book", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, load.Violation, false},
		{"a conflict without a reason", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, load.Violation, false},
		{"another rider was faster", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "already_accepted") }, load.Refused, true},
		{"none is open", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "no_open_bookings") }, load.Refused, true},
		{"404 without a code", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "") }, load.Violation, false},
		{"429 with Retry-After", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			refuse(w, 429, "limited")
		}, load.Limited, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf := config(&fake{say: map[string]http.HandlerFunc{c.call: c.say}})
				conf.Rate = 1
				r := run(t, conf)
				op := load.Book
				if strings.HasSuffix(c.call, "accept-booking") {
					op = load.Accept
				}
				o := r.Operations[op]
				if o.Steps[c.outcome] == 0 || len(o.Steps) != 1 || r.Good() != c.good ||
					(len(r.Violations) == 0) != c.good {
					t.Errorf("%+v, good %v, want only %s, and good %v; violations %+v", o, r.Good(), c.outcome, c.good,
						r.Violations)
				}
				if n := len(r.Acknowledged()); op == load.Book && n != 0 {
					t.Errorf("%d acknowledged", n)
				}
			})
		})
	}
}

// TestBrokenAndUnreachable breaks an answer, so that its outcome is unknown, and retries with the
// same key. A call to an unreachable instance counts as not sent.
func TestBrokenAndUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		c := config(f)
		// Each user has made two calls before, to the first two instances.
		c.Rate, c.Duration, c.User = 1, time.Second, []string{"http://broken.example", "http://good.example",
			"http://down.example"}
		broken := errors.New("it broke off")
		c.HTTP = &http.Client{Transport: through(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Host {
			case "down.example":
				return nil, &net.OpError{Op: "dial", Err: broken}
			case "broken.example":
				return nil, broken
			}
			return f.RoundTrip(r)
		})}
		r := run(t, c)
		var got []string
		keys := make(map[string]bool)
		for _, call := range r.Calls {
			if call.Op == load.Book {
				got = append(got, fmt.Sprintf("%d %s %s", call.Try, call.Instance, call.Outcome))
				keys[call.Key] = true
			}
		}
		want := []string{"1 http://down.example unreachable", "2 http://broken.example unknown",
			"3 http://good.example done"}
		if !slices.Equal(got, want) || len(keys) != 1 || !r.Good() || r.Events[booking.Requested] != 1 {
			t.Errorf("%q with %d keys, want %q; %+v", got, len(keys), want, r.Violations)
		}
	})
}

type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRefresh refreshes tokens before they expire, and logs in again if the refresh is refused.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		short := func(w http.ResponseWriter, r *http.Request) {
			answer(w, http.StatusOK, map[string]any{"token": tokenFor(r), "expires_in": 60, "refresh_token": "r"})
		}
		f.say = map[string]http.HandlerFunc{
			"POST /login": short,
			"POST /refresh": func(w http.ResponseWriter, _ *http.Request) {
				refuse(w, http.StatusUnauthorized, "invalid_refresh_token")
			},
		}
		c := config(f)
		c.Users, c.Rate, c.Duration, c.Think = 1, 1, 5*time.Minute, 10*time.Second
		r := run(t, c)
		if !r.Good() || r.Events[booking.Requested] != 300 {
			t.Errorf("%d booked; %+v", r.Events[booking.Requested], r.Violations)
		}
		// A user and a rider run for 300 s and use each token for 40 s of its minute.
		if logins, refreshes := f.count("POST /login"), f.count("POST /refresh"); refreshes < 12 || refreshes > 16 ||
			logins != refreshes+2 {
			t.Errorf("%d logins and %d refreshes", logins, refreshes)
		}
	})
}

// TestStopsEarly ends ctx early: there is still a report.
func TestStopsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 995*time.Millisecond)
		defer cancel()
		r, err := load.Run(ctx, config(&fake{}))
		if err != nil {
			t.Fatal(err)
		}
		if r.Seconds != 0.995 || r.Events[booking.Requested] != 100 || !r.Good() {
			t.Errorf("after %g s with %d booked, good %v", r.Seconds, r.Events[booking.Requested], r.Good())
		}
	})
}

// TestRefusals runs invalid loads: all invalid fields are reported together, and failing accounts
// with the remedy.
func TestRefusals(t *testing.T) {
	_, err := load.Run(t.Context(), load.Config{
		User: []string{"nowhere"}, Rider: []string{"http://x"}, Name: "A b", Rate: -1,
		Weights: &load.Weights{Cancel: 2},
	})
	if !errors.Is(err, load.ErrConfig) || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("%v, want five sentences", err)
	}
	for code, c := range map[string]struct {
		call   string
		status int
		wait   string
	}{
		"--address-limit": {"POST /register", 429, "300"}, "another password": {"POST /login", 401, ""}, "--approve-riders": {"POST /login", 403, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{say: map[string]http.HandlerFunc{c.call: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", c.wait)
				refuse(w, c.status, "x")
			}}}
			if _, err := load.Run(t.Context(), config(f)); err == nil || !strings.Contains(err.Error(), code) {
				t.Errorf("%v, want a message with %q", err, code)
			}
		})
	}
}
