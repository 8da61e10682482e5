//go:build linux

package gateway

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// TestClientsHaveTheirAddress makes requests as one client that says it is another. It is limited as
// itself, and the other one is not; the services log who it was. So it is for one that comes past the
// gateway.
func TestClientsHaveTheirAddress(t *testing.T) {
	s := start(t, tracing, "--request-limit=30")
	liar, honest := s.from(alice), s.from(bob)
	lies, says := liar.enter("liar@example.com", "user"), honest.enter("honest@example.com", "user")
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	pretends := []string{"X-Forwarded-For", "192.0.2.9, " + bob, "Forwarded", "for=192.0.2.9", "Traceparent",
		"00-" + trace + "-00f067aa0ba902b7-01"}
	wait.Until(t, "the liar is limited by each instance", func() bool {
		limited := 0
		for range 10 {
			a, err := liar.try(http.MethodGet, "/user/bookings", "", lies, "", pretends...)
			if err == nil && a.status == http.StatusTooManyRequests {
				limited++
			}
			if a.header.Get("X-Request-Id") == trace {
				t.Fatal("the request is part of the trace that a stranger has named")
			}
		}
		return limited == 10
	})
	for range 10 {
		honest.must(http.StatusOK, http.MethodGet, "/user/bookings", "", says, "")
	}
	for _, host := range hosts {
		honest.must(http.StatusOK, http.MethodGet, "https://"+s.flag("usersvc", host, "--user-addr=")+"/bookings", "", says, "",
			"X-Forwarded-For", "192.0.2.9")
	}
	seen := map[string]bool{}
	for _, host := range hosts {
		p := s.instances["usersvc"+host]
		for _, line := range p.Log.Lines(t, "request") {
			client, _ := line["client"].(string)
			seen[client] = true
		}
		if strings.Contains(p.Log.String(), "trusted proxy") {
			t.Errorf("usersvc warns of the gateway: %s", p.Tail(20))
		}
	}
	if !seen[alice] || !seen[bob] || len(seen) != 2 {
		t.Errorf("usersvc has seen %v", seen)
	}
}

// tracing has the services record traces, which nobody takes.
var tracing = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}

// flag returns the value of an instance's flag.
func (s *system) flag(name, host, flag string) string {
	s.t.Helper()
	for _, one := range s.flags[name+host] {
		if value, ok := strings.CutPrefix(one, flag); ok {
			return value
		}
	}
	s.t.Fatalf("%s has no %s", name, flag)
	return ""
}

// TestPage gets the page and all it is made of, and keeps its session as the page does, through the
// gateway.
func TestPage(t *testing.T) {
	s := start(t, nil)
	c := s.from(alice)
	var err error
	if c.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	index := c.must(http.StatusOK, http.MethodGet, "/", "", "", "", "Accept", "text/html").text
	files := regexp.MustCompile(`/assets/[^"]+`).FindAllString(index, -1)
	if len(files) < 10 {
		t.Errorf("the page has %d files: %s", len(files), index)
	}
	for _, path := range append(files, "/page.json", "/docs", "/openapi.json") {
		c.must(http.StatusOK, http.MethodGet, path, "", "", "", "Accept", "*/*")
	}
	for _, path := range []string{"/users", "/auth", "/metrics", "/assets"} {
		c.must(http.StatusNotFound, http.MethodGet, path, "", "", "", "Accept", "*/*")
	}

	const who = `{"email":"kim@example.com","password":"a password that is long","role":"user"`
	c.must(http.StatusCreated, http.MethodPost, "/auth/register", who+"}", "", "")
	c.must(http.StatusOK, http.MethodPost, "/auth/login", who+`,"role_cookie":true}`, "", "")
	// An old browser says where a request comes from, and not whether that is the same origin.
	refreshed := c.must(http.StatusOK, http.MethodPost, "/auth/refresh", `{"role":"user"}`, "", "", "Origin", s.at)
	c.must(http.StatusForbidden, http.MethodPost, "/auth/refresh", `{"role":"user"}`, "", "", "Origin", "https://evil.example.com")
	c.must(http.StatusOK, http.MethodGet, "/user/bookings", "", "Bearer "+refreshed.Token, "")
}

// TestStreams follows bookings through the gateway. Each event comes when it happens, and not at the
// end of the stream.
func TestStreams(t *testing.T) {
	s := start(t, nil)
	c := s.from(alice)
	user, rider := c.enter("kim@example.com", "user"), c.enter("rita@example.com", "raider")
	var first []time.Duration
	for n := range 40 {
		id := c.must(http.StatusOK, http.MethodPost, "/user/book", "{}", user, "").ID
		begun := time.Now()
		resp, err := c.ask(t.Context(), http.MethodGet, "/user/bookings/"+id+"/events", "", user, "", "Accept", "text/event-stream")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		lines := bufio.NewScanner(resp.Body)
		if resp.StatusCode != http.StatusOK || !lines.Scan() {
			t.Fatalf("the stream: %d, %v", resp.StatusCode, lines.Err())
		}
		first = append(first, time.Since(begun))
		read := func(want string) {
			t.Helper()
			for lines.Scan() {
				if strings.Contains(lines.Text(), want) {
					return
				}
			}
			t.Fatalf("the stream ends without %s: %v", want, lines.Err())
		}
		read("requested")
		key := fmt.Sprint(n)
		c.must(http.StatusOK, http.MethodPost, "/rider/accept-booking", `{"booking_id":"`+id+`"}`, rider, key)
		read("event: accepted")
		c.must(http.StatusOK, http.MethodPost, "/user/bookings/"+id+"/cancel", "{}", user, key)
		read("booking_over")
	}
	slices.Sort(first)
	t.Logf("the first byte of %d streams: p50 %v, the slowest %v", len(first), first[len(first)/2], first[len(first)-1])
}
