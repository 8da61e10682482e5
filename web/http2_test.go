package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

// A browser is a client that speaks HTTP/2 to one server.
type browser struct {
	*http.Client
	url   string
	conns atomic.Int64 // that it has made
}

// serve2 serves a theatre over HTTP/2, and returns the server and a client.
func serve2(t *testing.T, th *theatre, l web.Limits) (*serving, *browser) {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // it has a certificate, and clients that trust it
	t.Cleanup(lender.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	offers := []string{"h2", "http/1.1"}
	s := serveOn(t, tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: offers,
		Certificates: lender.TLS.Certificates}), l, th.handler, &th.journal)
	b := &browser{url: "https://" + s.addr}
	trust := lender.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	b.Client = &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   trust,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			b.conns.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
	t.Cleanup(b.CloseIdleConnections)
	return s, b
}

// watch opens a stream.
func (b *browser) watch(t *testing.T, bearer string) answered {
	t.Helper()
	a, version := watchBy(t, b.Client, b.url, bearer)
	if version != 2 {
		t.Fatalf("the server speaks HTTP/%d", version)
	}
	return a
}

// TestStreamsOfHTTP2 opens streams on one connection. They outlive the limits on requests and the
// time that each write may take, and end in order.
func TestStreamsOfHTTP2(t *testing.T) {
	t.Parallel()
	limits := web.DefaultLimits()
	limits.Read, limits.Write = time.Second, time.Second
	th := newTheatre(t, web.StreamLimits{Heartbeat: 1200 * time.Millisecond, Write: time.Second})
	s, b := serve2(t, th, limits)
	first := b.watch(t, th.user(tokentest.Ulla))
	if first.StatusCode != 200 || first.Header.Get("Strict-Transport-Security") == "" {
		t.Fatalf("%d %v", first.StatusCode, first.Header)
	}
	<-th.begun
	in := bufio.NewReader(first.Body)
	for line := ""; line != ":\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatalf("the stream has ended before its first heartbeat: %v", err)
		}
	}
	second := b.watch(t, th.user("uweuweuweuweuweuweuweuweuw"))
	<-th.begun
	if n := b.conns.Load(); n != 1 {
		t.Errorf("two streams took %d connections", n)
	}
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	for _, body := range []io.Reader{in, second.Body} {
		if reason, again, _ := last(t, body); reason != "shutting_down" || !again {
			t.Errorf("%s, %v", reason, again)
		}
	}
	if said := th.journal.String(); strings.Contains(said, "aborted") || strings.Contains(said, "still running") {
		t.Error(said)
	}
}

// TestHTTP2DropsAReaderThatDoesNotRead checks that a stream that nobody reads ends alone: the
// others of its connection go on.
func TestHTTP2DropsAReaderThatDoesNotRead(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, web.StreamLimits{Write: time.Second})
	_, b := serve2(t, th, web.DefaultLimits())
	b.watch(t, th.user(tokentest.Ulla))
	<-th.begun
	th.fill()
	if got := th.ended(t); got[0] != "slow_reader" {
		t.Errorf("the log says %v", got)
	}
	other := b.watch(t, th.user("uweuweuweuweuweuweuweuweuw"))
	<-th.begun
	th.endings <- web.BookingOver
	if reason, _, _ := last(t, other.Body); reason != "booking_over" || b.conns.Load() != 1 {
		t.Errorf("%s, on connection %d", reason, b.conns.Load())
	}
}
