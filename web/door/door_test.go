package door_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/door"
	"github.com/example/pillion/web/webtest"
)

// A house has a door, and three services that say who they are and which path they were asked for.
type house struct {
	door     http.Handler
	registry *prometheus.Registry
	log      *wait.Journal
}

func newHouse(t *testing.T, edit func(*web.RouterConfig)) house {
	t.Helper()
	h := house{registry: prometheus.NewRegistry(), log: new(wait.Journal)}
	router := func(name string) web.RouterConfig {
		c := web.RouterConfig{Service: name, Log: h.log.Logger(), Registerer: h.registry}
		edit(&c)
		return c
	}
	service := func(name string) chi.Router {
		r := web.NewRouter(router(name))
		r.Get("/rides/{id}", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, name+" "+r.URL.Path+" "+chi.URLParam(r, "id"))
		})
		return r
	}
	h.door = door.New(door.Services{Auth: service("authsvc"), User: service("usersvc"), Rider: service("ridersvc")},
		true, router("door"))
	return h
}

func (h house) get(target string, headers ...string) *httptest.ResponseRecorder {
	r := webtest.Request("GET", target, "", "", headers...)
	w := httptest.NewRecorder()
	h.door.ServeHTTP(w, r)
	return w
}

// TestDoor asks for what is behind the door and beside it. What is not exactly below a prefix is
// not a service's.
func TestDoor(t *testing.T) {
	h := newHouse(t, func(*web.RouterConfig) {})
	for _, c := range []struct {
		target string
		status int
		body   string
	}{
		{"/auth/rides/1", 200, "authsvc /rides/1 1"},
		{"/user/rides/2?limit=1", 200, "usersvc /rides/2 2"},
		{"/rider/rides/a%2Fb", 200, "ridersvc /rides/a/b a%2Fb"},
		{"/rider/rides", 404, "There is nothing at this path."},
		{"/user/", 404, "There is nothing at this path."},
		{"/user", 404, "There is nothing at this path."},
		{"/page.json", 200, `{"demo":true,"board":false}`},
		{"/board/events", 404, "There is nothing at this path."},
		{"/rides/1", 404, "There is nothing at this path."},
		{"/users/rides/1", 404, "There is nothing at this path."},
		{"//user/rides/1", 404, "There is nothing at this path."},
		{"/user/../auth/rides/1", 404, "There is nothing at this path."},
		{"/%75ser/rides/1", 404, "There is nothing at this path."},
		{"/user%2Frides/1", 404, "There is nothing at this path."},
		{"/docs?a=1", 400, `Query parameter "a" is unknown. This path has no query parameters.`},
	} {
		if w := h.get(c.target); w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.target, w.Code, w.Body, c.status, c.body)
		}
	}
}

// TestBeside asks for the page and for what a service has, of a service with the page beside it.
func TestBeside(t *testing.T) {
	service := web.NewRouter(web.RouterConfig{Service: "authsvc"})
	service.Get("/public-key", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a key") })
	h := house{door: door.Beside(service, true, web.RouterConfig{Service: "door"})}
	for _, c := range []struct {
		target string
		status int
		body   string // begins so
	}{
		{"/", 200, "<!doctype html>"},
		{"/page.json", 200, `{"demo":true,"board":false}`},
		{"/assets/0/main.js", 404, "There is nothing at this path."},
		{"/openapi.json", 200, "{"},
		{"/docs", 200, "<!doctype html>"},
		{"/public-key", 200, "a key"},
		{"/auth/public-key", 404, "There is nothing at this path."},
		{"/nothing", 404, "There is nothing at this path."},
	} {
		w := h.get(c.target)
		if text := strings.ToLower(strings.TrimSpace(w.Body.String())); w.Code != c.status ||
			!strings.HasPrefix(text, strings.ToLower(c.body)) {
			t.Errorf("%s: %d %.80q, want %d %q", c.target, w.Code, w.Body, c.status, c.body)
		}
	}
}

// TestCountedOnce checks that the metrics and the log have a request once, as if it had come to the
// service's own port.
func TestCountedOnce(t *testing.T) {
	h := newHouse(t, func(*web.RouterConfig) {})
	h.get("/user/rides/2")
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var counted []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pillion_http_requests_total" && m.GetCounter().GetValue() > 0 {
				counted = append(counted, m.String())
			}
		}
	}
	if len(counted) != 1 || !strings.Contains(counted[0], `"/rides/{id}"`) || !strings.Contains(counted[0], `"usersvc"`) {
		t.Errorf("the metrics have %v", counted)
	}
	if lines := h.log.Lines(t, "request"); len(lines) != 1 || lines[0]["route"] != "/rides/{id}" {
		t.Errorf("the log has %v", lines)
	}
}

// TestLimitsHold checks that the requests of a network to a service are counted with those to the
// service's own port, and that the door has a limit of its own.
func TestLimitsHold(t *testing.T) {
	h := newHouse(t, func(c *web.RouterConfig) { c.Rate = web.Rate{PerMinute: 2} })
	for _, target := range []string{"/user/rides/1", "/docs"} {
		for i, want := range []int{200, 200, 429} {
			if w := h.get(target); w.Code != want {
				t.Errorf("request %d for %s: %d, want %d", i+1, target, w.Code, want)
			}
		}
	}
}

// TestReference reads the document and the page. The page shows each call of the document, and the
// browser loads nothing but its style.
func TestReference(t *testing.T) {
	h := newHouse(t, func(*web.RouterConfig) {})
	h.door = webtest.Checked(t, h.door, "openapi.json")
	if w := h.get("/openapi.json"); w.Code != 200 || !strings.Contains(w.Body.String(), `"/user/book"`) {
		t.Errorf("the document: %d %.200q", w.Code, w.Body)
	}
	w := h.get("/docs")
	page := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("the page: %d %v %.200q", w.Code, w.Header(), page)
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	hash := sha256.Sum256([]byte(style))
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy,
		"style-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'") || !strings.HasPrefix(policy,
		"default-src 'none';") {
		t.Errorf("the policy is %s", policy)
	}
	if found := regexp.MustCompile(`(?i)<script|<img|<link|<iframe|\son[a-z]+=|\ssrc=|href="[^o]`).FindAllString(page,
		-1); found != nil {
		t.Errorf("the page has %q", found)
	}
	doc, err := webtest.Load("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range webtest.Operations(doc) {
		method, at, _ := strings.Cut(name, " ")
		if !strings.Contains(page, "<code><b>"+method+"</b> "+at+"</code>") ||
			!strings.Contains(page, `<details id="`+o.OperationID+`">`) {
			t.Errorf("the page does not show %s", name)
		}
		for status := range o.Responses.Map() {
			_, call, _ := strings.Cut(page, `<details id="`+o.OperationID+`">`)
			call, _, _ = strings.Cut(call, "</details>")
			if !strings.Contains(call, "<h4>"+status+"</h4>") {
				t.Errorf("the page does not show the status %s of %s", status, name)
			}
		}
	}
	// a reference, allOf, a nested field, a sentence, an example
	for _, want := range []string{"<code>bookings[].pickup.lat</code> <b>*</b>", "<code>Idempotency-Key</code>",
		"<pre>Only raiders can accept bookings</pre>", "number from -90 to 90", "<td>list of open or accepted or ",
		"Needs an access token.", "Takes the refresh cookie."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	t.Logf("the page has %d KiB", len(page)>>10)
}
