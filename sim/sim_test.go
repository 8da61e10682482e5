package sim_test

import (
	"cmp"
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
	"github.com/example/pillion/sim"
)

// config returns a load on fake services without a network. In a synctest bubble its clock is
// exact. Zero fields of the crowd have other defaults than usual.
func config(t *testing.T, f *fake, c sim.Crowd) sim.Config {
	t.Helper()
	c.Users, c.Riders, c.Rate = cmp.Or(c.Users, 10), 1, cmp.Or(c.Rate, 100)
	c.Seed, c.Think, c.Weights = 1, cmp.Or(c.Think, time.Second), &sim.Weights{}
	scene, err := c.Scene()
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"http://pillion.example"}
	return sim.Config{
		Auth: at, User: at, Rider: at, Scene: scene, Duration: 2 * time.Second, Seed: 1,
		HTTP: &http.Client{Transport: f}, Record: true,
	}
}

func run(t *testing.T, c sim.Config) *sim.Report {
	t.Helper()
	r, err := sim.Run(t.Context(), c)
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
		r := run(t, config(t, f, sim.Crowd{}))
		l := r.Operations[sim.Book].Latency
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
			if call.Op == sim.Book && !call.Start.Equal(call.Due) {
				t.Fatalf("a booking was due at %v and requested at %v", call.Due, call.Start)
			}
		}
		if !r.Good() {
			t.Errorf("slow answers are no violations: %+v", r.Violations)
		}
	})
}

// TestStop stops a run of a minute after half a second: what was due until then is requested, and
// nothing after it, and the run ends as it does after its Duration.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := &fake{}, make(chan struct{})
		c := config(t, f, sim.Crowd{Rate: 10})
		c.Duration, c.Forget, c.Stop = time.Minute, true, stop
		time.AfterFunc(550*time.Millisecond, func() { close(stop) })
		began := time.Now()
		run(t, c)
		if n := f.count("POST /book"); n != 6 {
			t.Errorf("%d bookings, want the 6 of the first 550 ms", n)
		}
		if took := time.Since(began); took > c.Scene.Think+time.Minute || f.count("POST /offline") != 1 {
			t.Errorf("it has taken %v, and %d of 1 riders have gone offline", took, f.count("POST /offline"))
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
		c := config(t, f, sim.Crowd{Rate: 10, Users: 2})
		c.Duration = time.Second
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
		book := r.Operations[sim.Book]
		if book.Answers["200"] != 10 || book.Answers["503 away"] != 1 || book.Steps[sim.Done] != 10 || !r.Good() {
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
			if call.Op == sim.Book {
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
		c := config(t, f, sim.Crowd{})
		c.InFlight = 30
		r := run(t, c)
		if r.Dropped != 170 || r.Operations[sim.Book].Calls != 30 || r.Seconds != 2 {
			t.Errorf("%d dropped and %d requested in %g s, want 170 and 30 in 2", r.Dropped,
				r.Operations[sim.Book].Calls, r.Seconds)
		}
	})
}

// TestAnswers tells violations from expected refusals.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		call    string
		say     http.HandlerFunc
		outcome sim.Outcome
		good    bool
	}{
		{"500", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "internal") }, sim.Violation, false},
		{"503 without Retry-After", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "away") }, sim.Violation, false},
		{"429 without Retry-After", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "limited") }, sim.Violation, false},
		{"a reused key", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 422, "key_reused") }, sim.Violation, false},
		{"a refused token that has not expired", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "invalid_token") }, sim.Violation, false},
		{"an expired token that cannot have expired", "POST /book", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "token_expired") }, sim.Violation, false},
		{"another booking than requested", "POST /book", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"booking_id": booking.NewID()})
		}, sim.Violation, false},
		{"no booking", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) }, sim.Violation, false},
		{"no JSON", "POST /book", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, sim.Violation, false},
		{"a conflict without a reason", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, sim.Violation, false},
		{"another rider was faster", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "already_accepted") }, sim.Refused, true},
		{"none is open", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "no_open_bookings") }, sim.Refused, true},
		{"404 without a code", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "") }, sim.Violation, false},
		{"429 with Retry-After", "POST /accept-booking", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			refuse(w, 429, "limited")
		}, sim.Limited, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, config(t, &fake{say: map[string]http.HandlerFunc{c.call: c.say}}, sim.Crowd{Rate: 1}))
				op := sim.Book
				if strings.HasSuffix(c.call, "accept-booking") {
					op = sim.Accept
				}
				o := r.Operations[op]
				if o.Steps[c.outcome] == 0 || len(o.Steps) != 1 || r.Good() != c.good ||
					(len(r.Violations) == 0) != c.good {
					t.Errorf("%+v, good %v, want only %s, and good %v; violations %+v", o, r.Good(), c.outcome, c.good,
						r.Violations)
				}
				if n := len(r.Acknowledged()); op == sim.Book && n != 0 {
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
		c := config(t, f, sim.Crowd{Rate: 1})
		// Each user has made two calls before, to the first two instances.
		c.Duration, c.User = time.Second, []string{"http://broken.example", "http://good.example",
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
			if call.Op == sim.Book {
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
		c := config(t, f, sim.Crowd{Users: 1, Rate: 1, Think: 10 * time.Second})
		c.Duration = 5 * time.Minute
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
		r, err := sim.Run(ctx, config(t, &fake{}, sim.Crowd{}))
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
	_, err := sim.Run(t.Context(), sim.Config{
		User: []string{"nowhere"}, Rider: []string{"http://x"}, Name: "A b", Speed: -1,
	})
	if !errors.Is(err, sim.ErrConfig) || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("%v, want five sentences", err)
	}
	for _, c := range []sim.Crowd{{Rate: -1}, {Weights: &sim.Weights{Cancel: 2}}} {
		if _, err := c.Scene(); !errors.Is(err, sim.ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", c, err)
		}
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
			_, err := sim.Run(t.Context(), config(t, f, sim.Crowd{}))
			if err == nil || !strings.Contains(err.Error(), code) {
				t.Errorf("%v, want a message with %q", err, code)
			}
		})
	}
}
