package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
)

// corsHeaders are what a browser decides by.
var corsHeaders = []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Headers", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
	"Access-Control-Max-Age"}

// granted returns the headers of an answer that a browser decides by, one per line.
func granted(w *httptest.ResponseRecorder) string {
	var lines []string
	for _, name := range corsHeaders {
		for _, value := range w.Header().Values(name) {
			lines = append(lines, strings.TrimPrefix(name, "Access-Control-")+": "+value)
		}
	}
	return strings.Join(lines, "\n")
}

// TestCrossOrigin makes the requests of pages: of an origin that is allowed, of others, and of the
// service's own.
func TestCrossOrigin(t *testing.T) {
	const app = "https://app.example"
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger(), Origins: []string{app, "http://localhost:5173"}})
	r.Post("/book", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "booked") })
	const preflight = "Access-Control-Request-Method"
	const exposed = "\nExpose-Headers: Retry-After, Www-Authenticate, X-Request-Id"
	for _, c := range []struct {
		name    string
		method  string
		target  string
		headers []string
		status  int
		granted string
	}{
		{"preflight", "OPTIONS", "/book", []string{"Origin", app, preflight, "POST", "Access-Control-Request-Headers", "authorization,content-type,idempotency-key"}, 204, "Allow-Origin: " + app + "\nAllow-Methods: POST\nAllow-Headers: authorization,content-type,idempotency-key\nMax-Age: 600"},
		{"preflight of a stream", "OPTIONS", "/events", []string{"Origin", app, preflight, "GET", "Access-Control-Request-Headers", "authorization,last-event-id"}, 204, "Allow-Origin: " + app + "\nAllow-Methods: GET\nAllow-Headers: authorization,last-event-id\nMax-Age: 600"},
		{"preflight of another header", "OPTIONS", "/book", []string{"Origin", app, preflight, "POST", "Access-Control-Request-Headers", "x-forwarded-for"}, 204, ""},
		{"preflight of another method", "OPTIONS", "/book", []string{"Origin", app, preflight, "PATCH"}, 204, ""},
		{"preflight of another origin", "OPTIONS", "/book", []string{"Origin", "https://evil.example", preflight, "POST"}, 204, ""},
		{"preflight of a longer origin", "OPTIONS", "/book", []string{"Origin", app + ".evil.example", preflight, "POST"}, 204, ""},
		{"preflight of no origin", "OPTIONS", "/book", []string{"Origin", "null", preflight, "POST"}, 204, ""},
		{"no preflight", "OPTIONS", "/book", []string{"Origin", app}, 405, "Allow-Origin: " + app + exposed},
		{"request", "POST", "/book", []string{"Origin", app}, 200, "Allow-Origin: " + app + exposed},
		{"request of the other origin", "POST", "/book", []string{"Origin", "http://localhost:5173"}, 200, "Allow-Origin: http://localhost:5173" + exposed},
		{"request of another port", "POST", "/book", []string{"Origin", "http://localhost:5174"}, 200, ""},
		{"refusal", "POST", "/boat", []string{"Origin", app}, 404, "Allow-Origin: " + app + exposed},
		{"request of a program", "POST", "/book", nil, 200, ""},
	} {
		w := answer(r, request(c.method, c.target, "", c.headers...))
		if got := granted(w); w.Code != c.status || got != c.granted {
			t.Errorf("%s: %d\n%s\nwant %d\n%s", c.name, w.Code, got, c.status, c.granted)
		}
		if w.Header().Get("Vary") == "" {
			t.Errorf("%s: a cache may give it to another origin", c.name)
		}
	}
	if lines := j.Lines(t, "request"); len(lines) == 0 || lines[0]["method"] != "OPTIONS" {
		t.Errorf("a preflight is not in the log: %v", lines)
	}
}

// TestSameOrigin checks that a service that allows no other origin says nothing about origins.
func TestSameOrigin(t *testing.T) {
	r := web.NewRouter(web.RouterConfig{})
	r.Post("/book", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "booked") })
	headers := []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST"}
	for method, status := range map[string]int{"OPTIONS": 405, "POST": 200} {
		w := answer(r, request(method, "/book", "", headers...))
		if w.Code != status || granted(w) != "" || w.Header().Get("Vary") != "" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

// TestPreflightsAreLimited checks that preflights count as requests, and that a page can read why a
// request is refused.
func TestPreflightsAreLimited(t *testing.T) {
	const app = "https://app.example"
	r := web.NewRouter(web.RouterConfig{Origins: []string{app}, Rate: web.Rate{PerMinute: 2}})
	r.Get("/", hello) // chi's middlewares need a route
	for i, status := range []int{204, 204, 429} {
		w := answer(r, request("OPTIONS", "/book", "", "Origin", app, "Access-Control-Request-Method", "POST"))
		if w.Code != status || w.Header().Get("Access-Control-Allow-Origin") != app {
			t.Errorf("preflight %d: %d %v, want %d", i+1, w.Code, w.Header(), status)
		}
	}
}
