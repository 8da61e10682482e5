package commands

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// A visit is what one page of a browser does at the one address.
type visit struct {
	t      *testing.T
	client *http.Client
	at     string // the address
	origin string // of the page
	token  string
}

// newVisit returns a page's visit with its own cookies. Each answer is held against the document.
func newVisit(t *testing.T, at, origin string, c *tls.Config) *visit {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &visit{t: t, at: at, origin: origin, client: &http.Client{Jar: jar, Timeout: wait.Patience,
		Transport: webtest.Transport(t, transport, "../..")}}
}

// A reply is an answer whose body is closed after the test.
type reply struct {
	status, protocol int
	header           http.Header
	body             io.Reader
}

// fetch makes a request as a page does, and returns the answer with its body still to read.
func (v *visit) fetch(method, path, body string, headers ...string) reply {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.at+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Origin", v.origin)
	if v.token != "" && method != http.MethodOptions {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = resp.Body.Close() })
	return reply{resp.StatusCode, resp.ProtoMajor, resp.Header, resp.Body}
}

// do is fetch for a JSON answer.
func (v *visit) do(status int, method, path, body string, headers ...string) (answer map[string]any) {
	v.t.Helper()
	got := v.fetch(method, path, body, headers...)
	text, err := io.ReadAll(got.body)
	if err != nil || got.status != status {
		v.t.Fatalf("%s %s: %d %s (%v), want %d", method, path, got.status, text, err, status)
	}
	_ = json.Unmarshal(text, &answer) // what is no JSON has no fields
	return answer
}

// login logs in with a demo account, and keeps the refresh token in a cookie.
func (v *visit) login(email, role string) {
	v.t.Helper()
	v.token, _ = v.do(200, "POST", "/auth/login",
		`{"email":"`+email+`","password":"password123","role":"`+role+`","cookie":true}`)["token"].(string)
}

// TestOneAddress takes a ride at the address of all services, as the pages of two origins do: one
// is the address itself, and the other one is allowed by --cors-origins.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	const app = "http://localhost:5173"
	p := proctest.Pillion(t, t.TempDir(), "--demo", "--cors-origins="+app, "--cookie-path=/auth")
	at := p.At["all"]
	user, rider := newVisit(t, at, at, nil), newVisit(t, at, app, nil)
	user.login("john@example.com", "user")
	rider.login("rider@example.com", "raider")
	id, _ := user.do(200, "POST", "/user/book", "{}")["booking_id"].(string)

	// The rider's page asks first, then follows the booking, and accepts it.
	if h := rider.fetch("OPTIONS", "/rider/accept-booking", "", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization,content-type,idempotency-key").header; h.Get(
		"Access-Control-Allow-Origin") != app || h.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("the preflight is answered with %v", h)
	}
	open := rider.fetch("GET", "/rider/open-bookings/events", "", "Last-Event-ID", "")
	if got := open.header.Get("Access-Control-Allow-Origin"); open.status != 200 || got != app {
		t.Errorf("the stream: %d, for %q", open.status, got)
	}
	rider.do(200, "POST", "/rider/accept-booking", `{"booking_id":"`+id+`"}`, "Idempotency-Key", "1")
	for line := bufio.NewScanner(open.body); ; {
		if !line.Scan() {
			t.Fatalf("the stream does not tell of the booking: %v", line.Err())
		}
		if strings.HasPrefix(line.Text(), "data: ") && strings.Contains(line.Text(), id) {
			break
		}
	}
	if got := user.do(200, "GET", "/user/bookings/"+id, ""); got["state"] != "accepted" {
		t.Errorf("the booking is %v", got)
	}

	// The refresh cookie is for pages of the address itself.
	if got := user.do(200, "POST", "/auth/refresh", "", "Sec-Fetch-Site", "same-origin"); got["token"] == nil {
		t.Errorf("the refresh gives %v", got)
	}
	rider.do(403, "POST", "/auth/refresh", "", "Sec-Fetch-Site", "cross-site")
	stranger := newVisit(t, at, "http://localhost:5174", nil)
	if h := stranger.fetch("GET", "/auth/public-key", "").header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin gets %v", h)
	}

	// A page reads the reference, and programs the document. Both services' logs and metrics have
	// the routes without prefixes.
	user.do(200, "GET", "/docs", "")
	user.do(200, "GET", "/openapi.json", "")
	user.do(404, "GET", "/nothing", "")
	_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
	for _, want := range []string{
		`pillion_http_requests_total{method="POST",route="/book",service="usersvc",status="200"} 1`,
		`pillion_http_requests_total{method="GET",route="/docs",service="door",status="200"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	p.Stop(t)
}

// TestOneAddressEncrypted checks that with a certificate the address speaks HTTP/2, and that
// browsers are told to come back over HTTPS.
func TestOneAddressEncrypted(t *testing.T) {
	t.Parallel()
	certs := makeCerts(t)
	p := proctest.Pillion(t, t.TempDir(), append(httpTLS(certs, "pillion"), "--demo")...)
	v := newVisit(t, p.At["all"], p.At["all"], trusting(t, certs))
	v.login("john@example.com", "user")
	id, _ := v.do(200, "POST", "/user/book", "{}")["booking_id"].(string)
	stream := v.fetch("GET", "/user/bookings/"+id+"/events", "")
	if stream.protocol != 2 || stream.header.Get("Strict-Transport-Security") == "" {
		t.Errorf("HTTP/%d, %v", stream.protocol, stream.header)
	}
	v.do(200, "POST", "/user/bookings/"+id+"/cancel", "{}")
	text, err := io.ReadAll(stream.body)
	if err != nil || !strings.Contains(string(text), `"reason":"booking_over"`) {
		t.Errorf("the stream is %s (%v)", text, err)
	}
}

// TestPageOfAuthsvc has authsvc serve the page, for a gateway. There is no NATS.
func TestPageOfAuthsvc(t *testing.T) {
	t.Parallel()
	start := func(args ...string) *proctest.Program {
		return proctest.Start(t, "authsvc", append(args, "--data="+t.TempDir(), "--auth-addr=127.0.0.1:0",
			"--ops-addr=127.0.0.1:0", "--nats-url=nats://"+bustest.FreeAddr(t))...)
	}
	p := start("--page")
	for path, want := range map[string]int{"/": 200, "/docs": 200, "/public-key": 503} {
		if status, text := proctest.Get(t, p.At["authsvc"]+path); status != want {
			t.Errorf("%s is answered %d %.80s, want %d", path, status, text, want)
		}
	}
	for serves, p := range map[bool]*proctest.Program{true: p, false: start()} {
		if _, metrics := proctest.Get(t, p.At["ops"]+"/metrics"); strings.Contains(metrics, `service="door"`) != serves {
			t.Errorf("it serves the page: %v, want %v", !serves, serves)
		}
	}
}

// TestNoOneAddress switches the address off.
func TestNoOneAddress(t *testing.T) {
	t.Parallel()
	if p := proctest.Pillion(t, t.TempDir(), "--addr=off"); p.At["all"] != "" || p.At["ops"] == "" {
		t.Errorf("it listens on %v", p.At)
	}
}

// TestUsualAddressIsTaken starts the system beside something else that listens on port 8080, as
// many programs do.
func TestUsualAddressIsTaken(t *testing.T) {
	t.Parallel()
	if ln, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
		defer ln.Close()
	}
	p := proctest.Pillion(t, t.TempDir(), "--addr=127.0.0.1:8080")
	if p.At["all"] != "" || p.At["usersvc"] == "" || !strings.Contains(p.Log.String(), "there is no address of all services") {
		t.Errorf("it listens on %v", p.At)
	}
}

// TestLimitsOfOneAddress opens connections to the address and to the ports of the services, which
// count together.
func TestLimitsOfOneAddress(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir(), "--connections=16", "--connection-limit=3")
	dial := func(name string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.At[name], "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(wait.Patience))
		return conn
	}
	for _, name := range []string{"all", "usersvc", "all"} {
		if status, _ := asks(t, dial(name), "/nothing"); status != 404 {
			t.Errorf("%s answers %d", name, status)
		}
	}
	fourth := dial("all")
	// it may be closed already
	_, _ = io.WriteString(fourth, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, err := io.ReadAll(fourth); len(answer) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the fourth connection is answered: %s (%v)", answer, err)
	}
}
