package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound the resources of one client. A zero duration is no limit.
type Limits struct {
	ReadHeader time.Duration // from the start of a request to the end of its header
	Read       time.Duration // from the start of a request to the end of its body
	Write      time.Duration // from the end of the header to the end of the answer
	Idle       time.Duration // between two requests of a connection
	Header     int           // bytes of a request's header; a longer one is answered with 431
	Grace      time.Duration // time for open requests to finish once the server is told to stop
}

// DefaultLimits returns the limits that suit services.
func DefaultLimits() Limits {
	return Limits{
		ReadHeader: 5 * time.Second,
		Read:       10 * time.Second,
		Write:      30 * time.Second,
		Idle:       60 * time.Second,
		Header:     16 << 10,
		Grace:      1500 * time.Millisecond,
	}
}

// headerSlop is how much more than MaxHeaderBytes net/http reads before it refuses a header.
const headerSlop = 4 << 10

// maxConcurrentStreams is the most requests at a time on one HTTP/2 connection. RFC 9113 advises no
// fewer.
const maxConcurrentStreams = 100

// abortTimeout is how long handlers have to return after their connections were closed.
const abortTimeout = 250 * time.Millisecond

type stoppingKey struct{}

// stoppingOf returns the context that ends when the server of a request is told to stop. Under a
// server that is not [Limits.Serve]'s, it never ends.
func stoppingOf(ctx context.Context) context.Context {
	if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return stopping
	}
	return context.WithoutCancel(ctx)
}

// Serve answers requests on ln with h until ctx ends, and closes ln. A listener with TLS that
// offers h2 also gets HTTP/2. When ctx ends, Serve accepts no new requests, ends streams (see
// [Streams]), waits for the other open requests up to the grace period, closes the connections of
// the rest, and returns nil. It returns an error only when serving itself fails.
func (l Limits) Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	var open connections
	// Requests outlive ctx. Streams, which have no end of their own, watch it.
	base := context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx)
	srv := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           h,
		ReadHeaderTimeout: l.ReadHeader,
		ReadTimeout:       l.Read,
		WriteTimeout:      l.Write,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    max(1, l.Header-headerSlop),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxConcurrentStreams},
		ErrorLog:          stdlog.New(connectionLog{log}, "", 0),
		ConnContext:       detectDeadPeer,
		ConnState:         open.note,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		_ = srv.Close()
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}

	// ctx has ended, so Shutdown needs a context of its own.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Grace)
	defer cancel()
	if err := srv.Shutdown(stopping); err != nil {
		log.Warn("open requests aborted after the grace period", "address", ln.Addr().String(), "error", err)
		_ = srv.Close() // an error means that a connection was closed already
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		log.Warn("server stopped with an error", "address", ln.Addr().String(), "error", err)
	}
	if left := open.wait(abortTimeout); left > 0 {
		log.Warn("handlers still running", "address", ln.Addr().String(), "connections", left)
	}
	return nil
}

// connectionLog logs what net/http reports about connections. Anybody can cause failed TLS
// handshakes, so those are logged at debug level.
type connectionLog struct{ log *slog.Logger }

func (c connectionLog) Write(line []byte) (int, error) {
	text, level := strings.TrimSpace(string(line)), slog.LevelWarn
	if strings.HasPrefix(text, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, text)
	return len(line), nil
}

// connections are those that a server's goroutines still serve.
type connections struct {
	n    atomic.Int64
	open sync.WaitGroup
}

// note is an http.Server's ConnState.
func (c *connections) note(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.n.Add(1)
		c.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.n.Add(-1)
		c.open.Done()
	}
}

// wait waits until no connection is left, or for d. It returns how many are left. No new connection
// may come.
func (c *connections) wait(d time.Duration) int64 {
	gone := make(chan struct{})
	go func() { // it ends with the last handler
		c.open.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(d):
	}
	return c.n.Load()
}
