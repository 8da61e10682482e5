package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
)

// A serving is a server on a port of its own.
type serving struct {
	addr string
	stop context.CancelFunc
	done chan error
}

// serve runs h within l until the test ends or stops it.
func serve(t *testing.T, l web.Limits, h http.Handler, j *wait.Journal) *serving {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{addr: ln.Addr().String(), stop: cancel, done: make(chan error, 1)}
	go func() { s.done <- l.Serve(ctx, ln, h, j.Logger()) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-s.done:
			if err != nil {
				t.Errorf("Serve = %v", err)
			}
		case <-time.After(wait.Patience):
			t.Error("the server does not stop")
		}
	})
	return s
}

// stopped stops the server and returns what Serve returned.
func (s *serving) stopped(t *testing.T) error {
	t.Helper()
	s.stop()
	select {
	case err := <-s.done:
		s.done <- nil // for the cleanup
		return err
	case <-time.After(wait.Patience):
		t.Fatal("the server does not stop")
		return nil
	}
}

// dial opens a connection that gives up by itself.
func (s *serving) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func hello(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "hello")
}

func TestServe(t *testing.T) {
	var j wait.Journal
	s := serve(t, web.DefaultLimits(), http.HandlerFunc(hello), &j)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
	// The client keeps its connection open, which does not hold up the end.
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if conn, err := net.Dial("tcp", s.addr); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
	if j.String() != "" {
		t.Errorf("an ordered stop is in the log: %s", j.String())
	}
}

func TestServeWithItsDefaults(t *testing.T) {
	want := web.Limits{ReadHeader: 5 * time.Second, Read: 10 * time.Second, Write: 30 * time.Second, Idle: time.Minute,
		Header: 16 << 10, Grace: 1500 * time.Millisecond}
	if got := web.DefaultLimits(); got != want {
		t.Errorf("%+v", got)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := web.Serve(ctx, ln, http.HandlerFunc(hello), nil); err != nil {
		t.Errorf("Serve with a context that has ended = %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
	if err := web.Serve(t.Context(), ln, http.HandlerFunc(hello), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v", err)
	}
}

func TestServeLetsRequestsFinish(t *testing.T) {
	var j wait.Journal
	began, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, web.DefaultLimits(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-finish
		hello(w, r)
	}), &j)
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	s.stop()
	// No new connections from here on: once that shows, the stop is under way.
	await(t, func() []bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
			return nil
		}
		return []bool{true}
	})
	close(finish)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("the request under way was not answered: %v", err)
	}
	_ = res.Body.Close()
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if strings.Contains(j.String(), "aborted") {
		t.Errorf("%s", j.String())
	}
}

func TestServeCutsWhatDoesNotFinish(t *testing.T) {
	limits := web.DefaultLimits()
	limits.Grace = 50 * time.Millisecond
	var j wait.Journal
	began, ended := make(chan struct{}), make(chan error, 1)
	s := serve(t, limits, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- r.Context().Err()
	}), &j)
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context: %v", err)
		}
	default:
		t.Error("Serve did not wait for the handler that it cut off")
	}
	if !strings.Contains(j.String(), "aborted") {
		t.Errorf("nothing in the log about it: %s", j.String())
	}
}

// A handler that will not end holds up nothing but itself.
func TestServeDoesNotWaitForEver(t *testing.T) {
	limits := web.DefaultLimits()
	limits.Grace = 10 * time.Millisecond
	var j wait.Journal
	began, finish := make(chan struct{}), make(chan struct{})
	defer close(finish)
	s := serve(t, limits, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(began)
		<-finish
	}), &j)
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if !strings.Contains(j.String(), "still running") {
		t.Errorf("nothing in the log about it: %s", j.String())
	}
}

func TestServeClosesSlowClients(t *testing.T) {
	// One of the limits at a time is short: the others are beyond the patience of the test.
	long := web.Limits{ReadHeader: time.Minute, Read: time.Minute, Write: time.Minute, Idle: time.Minute,
		Header: 16 << 10, Grace: time.Second}
	readHeader, read, write, idle := long, long, long, long
	readHeader.ReadHeader, read.Read, write.Write, idle.Idle = 50*time.Millisecond, 100*time.Millisecond,
		150*time.Millisecond, 50*time.Millisecond
	var j wait.Journal
	r := web.NewRouter(web.RouterConfig{Log: j.Logger()})
	r.Post("/", web.Handle(func(w http.ResponseWriter, r *http.Request) error {
		var v struct{}
		if err := web.DecodeOptional(r, &v); err != nil {
			return err
		}
		hello(w, r)
		return nil
	}))
	r.Get("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	for _, c := range []struct {
		limits      web.Limits
		name, sends string
		answer      string // how it begins; "" is none
	}{
		{readHeader, "nothing at all", "", ""},
		{readHeader, "half a request line", "GET / HT", "HTTP/1.1 400 "},
		{readHeader, "half a header", "POST / HTTP/1.1\r\nHost: x\r\nX-", "HTTP/1.1 400 "},
		{read, "half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", "HTTP/1.1 400 "},
		{read, "half a chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{", "HTTP/1.1 400 "},
		{read, "body that is never read", "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", "HTTP/1.1 404 "},
		{idle, "one request and no other", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 "},
	} {
		conn := serve(t, c.limits, r, &j).dial(t)
		_, _ = io.WriteString(conn, c.sends)
		got, err := io.ReadAll(conn) // until the server closes
		if err != nil || !strings.HasPrefix(string(got), c.answer) || c.answer == "" && len(got) > 0 {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.answer)
		}
	}
	// A client that does not read is left as well: the handler's writes fail, and it ends.
	conn := serve(t, write, r, &j).dial(t)
	_, _ = io.WriteString(conn, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
	await(t, func() []bool {
		for _, line := range j.Lines(t, "request") {
			if line["route"] == "/endless" {
				return []bool{true}
			}
		}
		return nil
	})
}

func TestServeLimitsHeaders(t *testing.T) {
	var j wait.Journal
	s := serve(t, web.DefaultLimits(), http.HandlerFunc(hello), &j)
	for _, c := range []struct {
		size   int // of the whole header, in bytes
		status string
	}{{15 << 10, "200"}, {16<<10 - 100, "200"}, {16<<10 + 100, "431"}, {1 << 20, "431"}} {
		const before, after = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Pad: ", "\r\n\r\n"
		conn := s.dial(t)
		wrote := make(chan struct{})
		go func() { // a server that refuses a header does not read it to its end
			defer close(wrote)
			_, _ = fmt.Fprint(conn, before, strings.Repeat("a", c.size-len(before)-len(after)), after)
		}()
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		<-wrote
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.status+" ") {
			t.Errorf("%d bytes of header: %q, %v, want %s", c.size, line, err, c.status)
		}
	}
}

// Over TLS the same is served, browsers are told to come back over it, and strangers who cannot
// shake hands leave no warning.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	var j wait.Journal
	lender := httptest.NewTLSServer(nil) // it has a certificate, and clients that trust it
	defer lender.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	router := web.NewRouter(web.RouterConfig{})
	router.Get("/", hello)
	go func() {
		done <- web.Serve(ctx, tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS13,
			Certificates: lender.TLS.Certificates}), router, j.Logger())
	}()
	client := lender.Client()
	resp, err := client.Get("https://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Strict-Transport-Security"); resp.StatusCode != http.StatusOK ||
		got != "max-age=31536000" {
		t.Errorf("%s, HSTS %q", resp.Status, got)
	}
	client.CloseIdleConnections()
	plain, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %s", plain.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if said := j.String(); strings.Contains(said, "WARN") {
		t.Errorf("a stranger has caused a warning:\n%s", said)
	}
}
