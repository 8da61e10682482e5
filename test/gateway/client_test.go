//go:build linux

package gateway

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// TestClientsHaveTheirAddress makes requests as one client that says it is another. It is limited
// as itself, and the other one is not; the services log who it was. So it is for one that comes
// past the gateway.
func TestClientsHaveTheirAddress(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// TestNewCertificate replaces the certificate of the gateway while a stream passes, which goes on.
func TestNewCertificate(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.from(alice)
	open := c.watch("/rider/open-bookings/events", c.enter("rita@example.com", "raider"))
	serial := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.at, "https://"), &tls.Config{
			RootCAs: c.pool, MinVersion: tls.VersionTLS13})
		if err != nil { // a connection that was not accepted before the change is reset
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	var old, now string
	wait.Until(t, "the gateway has a certificate", func() bool { old = serial(); return old != "" })
	s.certify("--for=gateway", "--renew")
	s.gateway.Signal(t, syscall.SIGUSR1)
	wait.Until(t, "the gateway has its new certificate", func() bool {
		now = serial()
		return now != "" && now != old
	})
	c.CloseIdleConnections()
	id := c.must(http.StatusOK, http.MethodPost, "/user/book", "{}", c.enter("kim@example.com", "user"), "").ID
	open.read(id)
}

// TestStreams follows bookings through the gateway. Each event comes when it happens, and not at
// the end of the stream. Streams outlive the gateway's limits on requests, over both versions of
// HTTP.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c, old := s.from(alice), s.from(alice)
	old.tcp.ForceAttemptHTTP2 = false // one that knows HTTP/1.1 only
	user, rider := c.enter("kim@example.com", "user"), c.enter("rita@example.com", "raider")
	var long []*stream
	for _, c := range []client{c, old} {
		one := c.watch("/rider/open-bookings/events", rider)
		one.read("retry: ")
		long = append(long, one)
	}
	var first []time.Duration
	for n := range 40 {
		id := c.must(http.StatusOK, http.MethodPost, "/user/book", "{}", user, "").ID
		begun := time.Now()
		one := c.watch("/user/bookings/"+id+"/events", user)
		one.read("")
		first = append(first, time.Since(begun))
		one.read("event: requested")
		key := fmt.Sprint(n)
		c.must(http.StatusOK, http.MethodPost, "/rider/accept-booking", `{"booking_id":"`+id+`"}`, rider, key)
		one.read("event: accepted")
		c.must(http.StatusOK, http.MethodPost, "/user/bookings/"+id+"/cancel", "{}", user, key)
		one.read(`"reason":"booking_over"`)
	}
	slices.Sort(first)
	t.Logf("the first byte of %d streams: p50 %v, the slowest %v", len(first), first[len(first)/2], first[len(first)-1])
	for i, one := range long {
		if got := one.ProtoMajor; got != 2-i {
			t.Errorf("the stream is over HTTP/%d", got)
		}
		one.readLine(":") // comes after fifteen seconds
	}
	id := c.must(http.StatusOK, http.MethodPost, "/user/book", "{}", user, "").ID
	for _, one := range long {
		one.read(id)
	}
}

// A stream is an answer that is read line by line.
type stream struct {
	*http.Response
	t     *testing.T
	lines *bufio.Scanner
}

// watch opens a stream. It is closed after the test.
func (c client) watch(path, token string) *stream {
	c.t.Helper()
	resp, err := c.ask(c.t.Context(), http.MethodGet, path, "", token, "", "Accept", "text/event-stream")
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %v %v", path, resp, err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{resp, c.t, bufio.NewScanner(resp.Body)}
}

// read reads until a line has a text.
func (s *stream) read(want string) {
	s.t.Helper()
	for s.lines.Scan() {
		if strings.Contains(s.lines.Text(), want) {
			return
		}
	}
	s.t.Fatalf("the stream ends without %s: %v", want, s.lines.Err())
}

// readLine reads until a line is a text.
func (s *stream) readLine(want string) {
	s.t.Helper()
	for s.lines.Scan() {
		if s.lines.Text() == want {
			return
		}
	}
	s.t.Fatalf("the stream ends without the line %s: %v", want, s.lines.Err())
}
