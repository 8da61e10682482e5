package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

var errTaken = fault.New(fault.Conflict, "taken", "That is taken. Choose another.")

func TestStatus(t *testing.T) {
	for kind, want := range map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403,
		fault.NotFound: 404, fault.Conflict: 409, fault.TooLarge: 413, fault.UnsupportedMedia: 415,
		fault.Unprocessable: 422,
		fault.Exhausted:     429, fault.Unavailable: 503, fault.Kind(200): 500,
	} {
		if got := web.Status(kind); got != want {
			t.Errorf("Status(%v) = %d, want %d", kind, got, want)
		}
	}
}

// failing returns a router whose every route fails with err.
func failing(j *wait.Journal, err error) http.Handler {
	r := web.NewRouter(web.RouterConfig{Service: "test", Log: j.Logger()})
	r.Get("/", web.Handle(func(http.ResponseWriter, *http.Request) error { return err }))
	return r
}

func TestWriteError(t *testing.T) {
	const bearer = "Bearer"
	for _, c := range []struct {
		name          string
		err           error
		status        int
		body          string
		authenticate  string
		retryAfter    string
		logged        bool
		mustNotReveal string
	}{
		{"a fault", errTaken, 409, "That is taken. Choose another.", "", "", false, ""},
		{"wrapped", fmt.Errorf("choose: %w", errTaken), 409, "That is taken. Choose another.", "", "", false, "choose"},
		{"with a cause", errTaken.Because(io.ErrNoProgress), 409, "That is taken. Choose another.", "", "", false, io.ErrNoProgress.Error()},
		{"not a fault", errors.New("pq: password is hunter2"), 500, fault.ErrInternal.Message, "", "", true, "hunter2"},
		{"an internal fault that talks", fault.New(fault.Internal, "hunter2", "It was hunter2."), 500, fault.ErrInternal.Message, "", "", true, "hunter2"},
		{"with a hint", errTaken.Hinting("Blue is free."), 409, "That is taken. Choose another.", "", "", false, "Blue"},
		{"unauthenticated", fault.New(fault.Unauthenticated, "credentials", "Invalid credentials"), 401, "Invalid credentials", bearer, "", false, ""},
		{"invalid token", token.ErrInvalid.Because(errors.New("expired")), 403, "Invalid token", `Bearer error="invalid_token"`, "", false, "expired"},
		{"forbidden", fault.New(fault.Forbidden, "not_yours", "That is not yours."), 403, "That is not yours.", "", "", false, ""},
		{"no keys", token.ErrNoKeys, 503, token.ErrNoKeys.Message, "", "1", true, ""},
		{"away, who knows for how long", fault.New(fault.Unavailable, "away", "Away."), 503, "Away.", "", "1", true, ""},
		{"away for a while", fault.New(fault.Unavailable, "away", "Away.").After(1500 * time.Millisecond), 503, "Away.", "", "2", true, ""},
		{"away for a minute", fault.New(fault.Unavailable, "away", "Away.").After(time.Minute), 503, "Away.", "", "60", true, ""},
		{"exhausted", fault.New(fault.Exhausted, "slow_down", "Slow down.").After(time.Nanosecond), 429, "Slow down.", "", "1", false, ""},
		{"a conflict that passes", errTaken.After(3 * time.Second), 409, "That is taken. Choose another.", "", "3", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j wait.Journal
			got := answer(failing(&j, c.err), request("GET", "/", "", "X-Request-Id", "r-1"))
			if got.Code != c.status || got.Body.String() != c.body {
				t.Errorf("got %d %q, want %d %q", got.Code, got.Body, c.status, c.body)
			}
			want := map[string]string{
				"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff",
				"Cache-Control":    "no-store",
				"WWW-Authenticate": c.authenticate, "Retry-After": c.retryAfter, "X-Request-Id": "r-1",
			}
			for name, value := range want {
				if got := got.Header().Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
			if c.mustNotReveal != "" && strings.Contains(got.Body.String(), c.mustNotReveal) {
				t.Errorf("the answer reveals %q", c.mustNotReveal)
			}
			level := "WARN" // whatever makes a service unavailable, a crowd of clients included
			if c.status == 500 {
				level = "ERROR"
			}
			failures := j.Lines(t, "request failed")
			switch {
			case !c.logged && len(failures) > 0:
				t.Errorf("logged as a failure of ours: %v", failures)
			case c.logged && (len(failures) != 1 || failures[0]["request_id"] != "r-1" ||
				failures[0]["level"] != level || failures[0]["error"] != c.err.Error()):
				t.Errorf("the cause is not in the log once: %v", failures)
			}
		})
	}
}

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		err  error
		want map[string]any
	}{
		{errTaken, map[string]any{"type": "about:blank", "title": "Conflict", "status": 409., "detail": "That is taken. Choose another.", "code": "taken", "instance": "r-1"}},
		{io.EOF, map[string]any{"type": "about:blank", "title": "Internal Server Error", "status": 500., "detail": fault.ErrInternal.Message, "code": "internal", "instance": "r-1"}},
	} {
		var j wait.Journal
		got := answer(failing(&j, c.err), request("GET", "/", "", "X-Request-Id", "r-1", "Accept",
			"application/problem+json"))
		if ct := got.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("Content-Type: %s", ct)
		}
		var body map[string]any
		if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, body); diff != "" || got.Code != int(c.want["status"].(float64)) {
			t.Errorf("%d %s", got.Code, diff)
		}
	}
	// Outside of a router there is no request id, and an instance would be empty.
	rec := httptest.NewRecorder()
	web.WriteError(rec, request("GET", "/", "", "Accept", "application/json"), errTaken)
	if strings.Contains(rec.Body.String(), "instance") || rec.Code != 409 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestAccept(t *testing.T) {
	for _, c := range []struct {
		accept []string
		json   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"*/*"}, false},
		{[]string{"text/plain"}, false},
		{[]string{"application/json"}, true},
		{[]string{"Application/JSON"}, true},
		{[]string{"application/problem+json"}, true},
		{[]string{"application/*"}, true},
		{[]string{"application/json; charset=utf-8"}, true},
		{[]string{"application/json, text/plain, */*"}, true}, // axios
		{[]string{"text/plain, application/json"}, false},
		{[]string{"application/json, */*"}, true},
		{[]string{"*/*, application/json"}, true},
		{[]string{"application/json;q=0.9, */*"}, false},
		{[]string{"application/json;q=0.9, text/plain;q=0.8"}, true},
		{[]string{"application/json;q=0.8, text/plain;q=0.9"}, false},
		{[]string{"text/*;q=0.5, application/json;q=0.6"}, true},
		{[]string{"text/plain;q=0, */*"}, true},
		{[]string{"application/json;q=0"}, false},
		{[]string{"application/json;q=0, application/problem+json"}, true},
		{[]string{"application/json;q=2"}, false},
		{[]string{"application/json;q=NaN"}, false},
		{[]string{"application/json;q=x"}, false},
		{[]string{"application/*;q=0.1, application/json"}, true},
		// a browser
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, false},
		// an old Java client
		{[]string{"text/html, image/gif, *; q=.2, */*; q=.2"}, false},
		{[]string{"image/png"}, false},
		{[]string{",,;;q=, application/json"}, true},
		{[]string{"text/html", "application/json"}, true},
	} {
		r := request("GET", "/", "")
		r.Header["Accept"] = c.accept
		rec := httptest.NewRecorder()
		web.WriteError(rec, r, errTaken)
		if got := rec.Header().Get("Content-Type") == "application/problem+json"; got != c.json {
			t.Errorf("Accept: %q is answered with %s", c.accept, rec.Header().Get("Content-Type"))
		}
	}
}

func TestFailureReplacesWhatTheHandlerPrepared(t *testing.T) {
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger()})
	r.Get("/", web.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified"} {
			w.Header().Set(name, "1")
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Content-Type", "application/json")
		return errTaken
	}))
	got := answer(r, request("GET", "/", ""))
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified"} {
		if v := got.Header().Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
	if cc, ct := got.Header().Get("Cache-Control"), got.Header().Get("Content-Type"); cc != "no-store" ||
		ct != "text/plain; charset=utf-8" {
		t.Errorf("Cache-Control: %s, Content-Type: %s", cc, ct)
	}
}

func TestFailureAfterTheAnswerHasBegun(t *testing.T) {
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger()})
	r.Get("/", web.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half")
		return io.ErrUnexpectedEOF
	}))
	got := answer(r, request("GET", "/", ""))
	if got.Code != 200 || got.Body.String() != "half" {
		t.Errorf("got %d %q", got.Code, got.Body)
	}
	if len(j.Lines(t, "request failed")) != 1 {
		t.Errorf("the failure is not in the log: %s", j.String())
	}
}

// A client that leaves is not a failure of ours, and neither are the cancellations it sets off.
func TestClientGone(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("load: %w", context.Canceled),
		fault.New(fault.Unavailable, "away", "Away.").Because(context.Canceled),
	} {
		var j wait.Journal
		ctx, cancel := context.WithCancel(t.Context())
		h := failing(&j, err)
		answer(h, request("GET", "/", "").WithContext(ctx))
		if len(j.Lines(t, "request failed")) != 1 {
			t.Errorf("%v: not logged although the client is there", err)
		}
		cancel()
		answer(h, request("GET", "/", "").WithContext(ctx))
		if len(j.Lines(t, "request failed")) != 1 {
			t.Errorf("%v: logged although the client has left", err)
		}
		if lines := j.Lines(t, "request"); lines[1]["status"] != 499. {
			t.Errorf("%v: %v", err, lines[1])
		}
	}
}

func TestWriteJSON(t *testing.T) {
	rec := httptest.NewRecorder()
	if err := web.WriteJSON(rec, http.StatusCreated, map[string]bool{"status": true}); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 201 || rec.Body.String() != `{"status":true}` ||
		rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s %s", rec.Code, rec.Body, rec.Header())
	}

	// What cannot be encoded is found before anything is written, so it can still be answered.
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger()})
	r.Get("/", web.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, func() {})
	}))
	if got := answer(r, request("GET", "/", "")); got.Code != 500 || got.Body.String() != fault.ErrInternal.Message {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// A hint is for clients that prefer JSON. Text stays as clients of old know it.
func TestHint(t *testing.T) {
	var j wait.Journal
	for _, c := range []struct {
		err  error
		want string
	}{
		{errTaken, "That is taken. Choose another."},
		{errTaken.Hinting("Blue is free."), "That is taken. Choose another. Blue is free."},
		{errTaken.Saying("Taken").Hinting("Blue is free."), "Taken. Blue is free."},
		{fmt.Errorf("wrapped: %w", errTaken.Saying("Taken").Hinting("Blue is free.")), "Taken. Blue is free."},
		{fault.New(fault.Internal, "x", "y").Hinting("The password is hunter2."), fault.ErrInternal.Message},
	} {
		w := answer(failing(&j, c.err), request("GET", "/", "", "Accept", "application/json"))
		var p struct{ Detail string }
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Detail != c.want {
			t.Errorf("the detail is %q (%v), want %q", p.Detail, err, c.want)
		}
	}
}
