package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

func TestRequestID(t *testing.T) {
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger()})
	r.Get("/", func(http.ResponseWriter, *http.Request) {})
	made := regexp.MustCompile(`^[a-z2-7]{26}$`)
	seen := make(map[string]bool)
	for _, c := range []struct {
		sent []string
		kept bool
	}{
		{nil, false},
		{[]string{"a"}, true},
		{[]string{"A-Za-z0-9_.-"}, true},
		{[]string{strings.Repeat("a", 64)}, true},
		{[]string{strings.Repeat("a", 65)}, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a\nlevel=ERROR"}, false},
		{[]string{`a"b`}, false},
		{[]string{"ä"}, false},
		{[]string{"a/b"}, false},
		{[]string{"a", "a"}, false},
	} {
		req := request("GET", "/", "")
		for _, id := range c.sent {
			req.Header.Add("X-Request-Id", id)
		}
		got := answer(r, req).Header().Get("X-Request-Id")
		switch {
		case c.kept && got != c.sent[0]:
			t.Errorf("%q became %q", c.sent, got)
		case !c.kept && (!made.MatchString(got) || seen[got]):
			t.Errorf("%q: %q is not a new id", c.sent, got)
		}
		seen[got] = true
		lines := j.Lines(t, "request")
		if last := lines[len(lines)-1]["request_id"]; last != got {
			t.Errorf("%q is answered with %q and logged as %q", c.sent, got, last)
		}
	}
}

// A clock that is as late as a test says.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// Strangers who are refused get a line a second, with the number of those that got none. People
// with a token get a line each, and so does what succeeds.
func TestRefusedStrangersDoNotFillTheLog(t *testing.T) {
	a := tokentest.New(t)
	user := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	var j wait.Journal
	clock := &clock{now: time.Unix(1_700_000_000, 0)}
	r := web.NewRouter(web.RouterConfig{Service: "usersvc", Log: j.Logger(), Now: clock.Now})
	r.Get("/public", func(http.ResponseWriter, *http.Request) {})
	r.With(web.Require(a.Verifier(), token.User, onlyUsers)).Get("/mine",
		web.Handle(func(http.ResponseWriter, *http.Request) error { return errTaken }))
	lines := 0
	ask := func(more int, target, authorization string) map[string]any {
		t.Helper()
		req := request("GET", target, "")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		answer(r, req)
		lines += more
		all := j.Lines(t, "request")
		if len(all) != lines {
			t.Errorf("%s %.10q: %d lines in the log, want %d", target, authorization, len(all), lines)
		}
		return all[len(all)-1]
	}
	ask(1, "/mine", "")
	for range 50 {
		ask(0, "/mine", "")
		ask(0, "/mine", "Bearer forged")
		ask(0, "/elsewhere", "")
	}
	for range 3 {
		if line := ask(1, "/mine", "Bearer "+user); line["status"] != 409. || line["unlogged"] != nil {
			t.Errorf("a person's line is %v", line)
		}
		ask(1, "/public", "")
	}
	clock.now = clock.now.Add(time.Second)
	if line := ask(1, "/mine", ""); line["unlogged"] != 150. || line["status"] != 401. {
		t.Errorf("a second later the line is %v", line)
	}
	clock.now = clock.now.Add(time.Second)
	if line := ask(1, "/mine", ""); line["unlogged"] != nil {
		t.Errorf("when none was left out the line is %v", line)
	}
}

func TestRouterLogsEachRequestOnce(t *testing.T) {
	a := tokentest.New(t)
	user := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	var j wait.Journal
	clock := &clock{now: time.Unix(1_700_000_000, 0)}
	reg := prometheus.NewRegistry()
	r := web.NewRouter(web.RouterConfig{Service: "usersvc", Log: j.Logger(), Registerer: reg, Now: clock.Now})
	r.Get("/bookings/{id}", func(w http.ResponseWriter, _ *http.Request) {
		clock.now = clock.now.Add(1234567 * time.Nanosecond)
		_, _ = io.WriteString(w, "hello")
	})
	r.Get("/nothing", func(http.ResponseWriter, *http.Request) {})
	r.Get("/early-hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	r.Get("/failing", web.Handle(func(http.ResponseWriter, *http.Request) error { return errTaken }))
	r.Route("/admin", func(r chi.Router) { r.Get("/users/{id}", func(http.ResponseWriter, *http.Request) {}) })
	r.Group(func(r chi.Router) {
		r.Use(web.Require(a.Verifier(), token.User, onlyUsers))
		r.Post("/book", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	})
	for _, c := range []struct {
		method, target, authorization string
		// beyond level, time, msg, request_id and client
		want map[string]any
	}{
		{"GET", "/bookings/b1?secret=s3cr3t", "", map[string]any{"method": "GET", "route": "/bookings/{id}", "status": 200., "bytes": 5., "duration_ms": 1.234}},
		{"GET", "/nothing", "", map[string]any{"method": "GET", "route": "/nothing", "status": 200., "bytes": 0., "duration_ms": 0.}},
		{"GET", "/early-hints", "", map[string]any{"method": "GET", "route": "/early-hints", "status": 418., "bytes": 0., "duration_ms": 0.}},
		{"GET", "/failing", "", map[string]any{"method": "GET", "route": "/failing", "status": 409., "bytes": 30., "duration_ms": 0., "code": "taken"}},
		{"GET", "/admin/users/s3cr3t", "", map[string]any{"method": "GET", "route": "/admin/users/{id}", "status": 200., "bytes": 0., "duration_ms": 0.}},
		{"GET", "/s3cr3t", "", map[string]any{"method": "GET", "route": "unmatched", "status": 404., "bytes": 30., "duration_ms": 0., "code": "no_such_path"}},
		{"PURGE", "/s3cr3t", "", map[string]any{"method": "other", "route": "unmatched", "status": 404., "bytes": 30., "duration_ms": 0., "code": "no_such_path"}},
		{"POST", "/book", "Bearer " + user, map[string]any{"method": "POST", "route": "/book", "status": 201., "bytes": 0., "duration_ms": 0., "sub": tokentest.Ulla}},
		{"POST", "/book", "Bearer s3cr3t", map[string]any{"method": "POST", "route": "/book", "status": 403., "bytes": 13., "duration_ms": 0., "code": "invalid_token"}},
		{"POST", "/book", "", map[string]any{"method": "POST", "route": "/book", "status": 401., "bytes": 28., "duration_ms": 0., "code": "missing_authorization"}},
	} {
		before := len(j.Lines(t, "request"))
		clock.now = clock.now.Add(time.Second) // refused strangers have a line a second
		req := request(c.method, c.target, "", "X-Request-Id", "r-1")
		if c.authorization != "" {
			req.Header.Set("Authorization", c.authorization)
		}
		answer(r, req)
		lines := j.Lines(t, "request")
		if len(lines) != before+1 {
			t.Errorf("%s %s has %d lines in the log", c.method, c.target, len(lines)-before)
			continue
		}
		line := lines[before]
		if line["request_id"] != "r-1" || line["level"] != "INFO" || line["client"] != "192.0.2.1" {
			t.Errorf("%s %s: %v", c.method, c.target, line)
		}
		for name, want := range c.want {
			if line[name] != want {
				t.Errorf("%s %s: %s is %v, want %v", c.method, c.target, name, line[name], want)
			}
		}
		if len(line) != len(c.want)+5 {
			t.Errorf("%s %s: more than is wanted in %v", c.method, c.target, line)
		}
	}
	if text := j.String(); strings.Contains(text, "s3cr3t") || strings.Contains(text, user) {
		t.Error("a secret is in the log")
	}

	const want = `
# HELP pillion_http_requests_total HTTP requests by route pattern, method and status. Status aborted is an incomplete answer.
# TYPE pillion_http_requests_total counter
pillion_http_requests_total{method="GET",route="/admin/users/{id}",service="usersvc",status="200"} 1
pillion_http_requests_total{method="GET",route="/bookings/{id}",service="usersvc",status="200"} 1
pillion_http_requests_total{method="GET",route="/early-hints",service="usersvc",status="418"} 1
pillion_http_requests_total{method="GET",route="/failing",service="usersvc",status="409"} 1
pillion_http_requests_total{method="GET",route="/nothing",service="usersvc",status="200"} 1
pillion_http_requests_total{method="GET",route="unmatched",service="usersvc",status="404"} 1
pillion_http_requests_total{method="POST",route="/book",service="usersvc",status="201"} 1
pillion_http_requests_total{method="POST",route="/book",service="usersvc",status="401"} 1
pillion_http_requests_total{method="POST",route="/book",service="usersvc",status="403"} 1
pillion_http_requests_total{method="other",route="unmatched",service="usersvc",status="404"} 1
`
	all := new(strings.Builder)
	all.WriteString(want)
	for _, route := range []string{"GET /admin/users/{id}", "GET /bookings/{id}", "GET /early-hints", "GET /failing",
		"GET /nothing", "POST /book"} { // the failures of each route exist before the first one
		method, path, _ := strings.Cut(route, " ")
		for _, status := range []int{500, 503} {
			fmt.Fprintf(all, "pillion_http_requests_total{method=%q,route=%q,service=\"usersvc\",status=\"%d\"} 0\n",
				method, path, status)
		}
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(all.String()), "pillion_http_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "pillion_http_request_duration_seconds"); err != nil || n != 8 {
		t.Errorf("%d histograms, want one for each route and method, 8: %v", n, err)
	}
}

// Several services share one registry in one process.
func TestRoutersShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		r := web.NewRouter(web.RouterConfig{Service: service, Registerer: reg})
		r.Get("/", func(http.ResponseWriter, *http.Request) {})
		answer(r, request("GET", "/", ""))
	}
	if n, err := testutil.GatherAndCount(reg, "pillion_http_requests_total"); err != nil || n != 9 {
		t.Errorf("%d counters, want 9, the status 200 and two failures for each: %v", n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestUnroutedRequests(t *testing.T) {
	r := web.NewRouter(web.RouterConfig{})
	nop := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }
	r.Get("/public-key", nop)
	r.Post("/book", nop)
	r.Get("/bookings/{id}", nop)
	r.Delete("/bookings/{id}", nop)
	r.Route("/nested", func(r chi.Router) { r.Put("/{id}", nop) })
	for _, c := range []struct {
		method, path string
		status       int
		allow, body  string
	}{
		{"GET", "/public-key", 200, "", "hello"},
		{"HEAD", "/public-key", 200, "", "hello"}, // the server leaves the body out
		{"GET", "/", 404, "", "There is nothing at this path."},
		{"HEAD", "/none", 404, "", "There is nothing at this path."},
		{"GET", "/book/", 404, "", "There is nothing at this path."},
		{"GET", "/nested/a/b", 404, "", "There is nothing at this path."},
		{"PURGE", "/none", 404, "", "There is nothing at this path."},
		{"GET", "/book", 405, "POST", "This path supports only POST."},
		{"HEAD", "/book", 405, "POST", "This path supports only POST."},
		{"OPTIONS", "/book", 405, "POST", "This path supports only POST."},
		{"PURGE", "/book", 405, "POST", "This path supports only POST."},
		{"POST", "/public-key", 405, "GET, HEAD", "This path supports only GET, HEAD."},
		{"POST", "/bookings/b1", 405, "GET, HEAD, DELETE", "This path supports only GET, HEAD, DELETE."},
		{"POST", "/bookings/b%2F1", 405, "GET, HEAD, DELETE", "This path supports only GET, HEAD, DELETE."},
		{"GET", "/nested/a", 405, "PUT", "This path supports only PUT."},
	} {
		got := answer(r, request(c.method, c.path, ""))
		if got.Code != c.status || got.Header().Get("Allow") != c.allow || got.Body.String() != c.body {
			t.Errorf("%s %s: %d %q %q, want %d %q %q", c.method, c.path, got.Code, got.Header().Get("Allow"), got.Body,
				c.status, c.allow, c.body)
		}
		if c.status != 200 && got.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s %s: %s", c.method, c.path, got.Header().Get("Content-Type"))
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if v := got.Header().Get(name); v != want {
				t.Errorf("%s %s: %s: %q", c.method, c.path, name, v)
			}
		}
	}
	got := answer(r, request("GET", "/book", "", "Accept", "application/json"))
	if !strings.Contains(got.Body.String(), `"code":"method_not_allowed"`) ||
		!strings.Contains(got.Body.String(), `"title":"Method Not Allowed"`) {
		t.Errorf("%s", got.Body)
	}
}

func TestPanic(t *testing.T) {
	var j wait.Journal
	reg := prometheus.NewRegistry()
	r := web.NewRouter(web.RouterConfig{Service: "test", Log: j.Logger(), Registerer: reg})
	r.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("it broke: hunter2") })
	r.Get("/panic-late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("it broke")
	})
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r.Get("/out-of-range", func(_ http.ResponseWriter, r *http.Request) {
		var segments []string
		_ = segments[len(r.URL.Path)]
	})
	var serverLog bytes.Buffer
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ErrorLog = journalLogger(&serverLog)
	srv.Start()
	defer srv.Close()

	for _, c := range []struct {
		path    string
		answer  string // empty: the connection is cut
		status  string // label
		logged  int    // lines about a panic so far
		aborted bool
	}{
		{"/panic", fault.ErrInternal.Message, "500", 1, false},
		{"/out-of-range", fault.ErrInternal.Message, "500", 2, false},
		{"/panic-late", "", "aborted", 3, true},
		{"/abort", "", "aborted", 3, true},
	} {
		var body []byte
		res, err := srv.Client().Get(srv.URL + c.path)
		if err == nil {
			body, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		switch {
		case c.answer == "" && err == nil:
			t.Errorf("%s: the answer looks whole: %q", c.path, body)
		case c.answer != "" && (err != nil || res.StatusCode != 500 || string(body) != c.answer):
			t.Errorf("%s: %v, %q", c.path, err, body)
		}
		// The client may see the end of the connection before the line is in the log.
		lines := await(t, func() []map[string]any {
			for _, line := range j.Lines(t, "request") {
				if line["route"] == c.path {
					return []map[string]any{line}
				}
			}
			return nil
		})
		if aborted := lines[0]["aborted"] == true; aborted != c.aborted {
			t.Errorf("%s: %v", c.path, lines[0])
		}
		if n := len(j.Lines(t, "request panicked")); n != c.logged {
			t.Errorf("%s: %d lines about panics in the log, want %d", c.path, n, c.logged)
		}
		want := `pillion_http_requests_total{method="GET",route="` + c.path + `",service="test",status="` + c.status + `"} 1`
		if text := answer(web.OpsHandler(reg, nil, false), request("GET", "/metrics",
			"")).Body.String(); !strings.Contains(text, want) {
			t.Errorf("%s: %s is not in the metrics", c.path, want)
		}
	}
	first := j.Lines(t, "request panicked")[0]
	if first["level"] != "ERROR" || first["panic"] != "it broke: hunter2" ||
		!strings.Contains(first["stack"].(string), "router_test.go") {
		t.Errorf("%v", first)
	}
	srv.Close()
	if serverLog.Len() > 0 {
		t.Errorf("the server logged it again: %s", serverLog.String())
	}
}

// Handlers that stream reach the server's own writer.
func TestResponseController(t *testing.T) {
	r := web.NewRouter(web.RouterConfig{})
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		if err := errors.Join(c.SetWriteDeadline(time.Now().Add(time.Minute)), c.Flush()); err != nil {
			t.Error(err)
		}
	})
	srv := httptest.NewServer(r)
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

// Of a request that took too long it is said what is known, and how to find out the rest.
func TestTooLong(t *testing.T) {
	const long, again, look = "This took too long. ", "Please try again.", "GET /things shows it if it was."
	for _, c := range []struct{ method, key, look, says string }{
		{"GET", "", look, again}, {"HEAD", "", look, ""}, {"GET", "", "", again}, {"POST", "", look, look},
		{"POST", "k", look, "Send the same request again with the same Idempotency-Key: it takes effect only once."},
		{"POST", "", "", "It may have taken effect. Please send it again."},
	} {
		r := web.NewRouter(web.RouterConfig{Patience: time.Millisecond, Look: c.look})
		handle := web.Handle(func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		})
		r.Get("/", handle)
		r.Post("/", handle)
		rec, req := httptest.NewRecorder(), httptest.NewRequest(c.method, "/", nil)
		if c.key != "" {
			req.Header.Set("Idempotency-Key", c.key)
		}
		r.ServeHTTP(rec, req)
		if rec.Code != http.StatusServiceUnavailable || rec.Body.String() != long+c.says && c.method != "HEAD" {
			t.Errorf("%+v: %d %q", c, rec.Code, rec.Body)
		}
	}
}

// A request ends when patience does, however long what it waits for may be tried, with an answer
// that says when to come back; and so does what knows nothing of faults.
func TestPatience(t *testing.T) {
	unavailable := fault.New(fault.Unavailable, "away", "It is away.")
	for name, fails := range map[string]func(context.Context) error{
		"took_too_long": func(ctx context.Context) error { return fmt.Errorf("wait: %w", ctx.Err()) },
		"away":          func(ctx context.Context) error { return unavailable.Because(ctx.Err()) },
	} {
		r := web.NewRouter(web.RouterConfig{Patience: time.Millisecond})
		r.Get("/", web.Handle(func(_ http.ResponseWriter, r *http.Request) error {
			select {
			case <-r.Context().Done():
				return fails(r.Context())
			case <-time.After(30 * time.Second):
				return errors.New("nobody ends it")
			}
		}))
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("Accept", "application/json")
		r.ServeHTTP(rec, req)
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" ||
			!strings.Contains(rec.Body.String(), name) {
			t.Errorf("%s: %d, Retry-After %q: %s", name, rec.Code, rec.Header().Get("Retry-After"), rec.Body)
		}
	}
}
