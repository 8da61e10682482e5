package web

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Limits bound what one client can take from a server. A zero duration means no bound.
type Limits struct {
	ReadHeader time.Duration // from the start of a request to the end of its header
	Read       time.Duration // from the start of a request to the end of its body
	Write      time.Duration // from the end of the header to the end of the answer
	Idle       time.Duration // between two requests of a connection
	Header     int           // bytes of a request's header; more is answered with 431
	Grace      time.Duration // what requests under way are given to finish once the server is told to stop
}

// DefaultLimits are those of [Serve]: 5 s, 10 s, 30 s and 60 s, 16 KiB, and 1.5 s of grace.
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

// Serve answers requests on ln with h until ctx ends, within [DefaultLimits]. It closes ln. See [Limits.Serve].
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	return DefaultLimits().Serve(ctx, ln, h, log)
}

// headerSlop is what net/http reads beyond MaxHeaderBytes before it refuses a header.
const headerSlop = 4 << 10

// cutOff is how long connections that had to be cut get to notice it.
const cutOff = 250 * time.Millisecond

// Serve answers requests on ln with h until ctx ends, and closes ln. Then it takes no new requests, ends streams (see [Streams]), gives the other requests
// under way the grace to finish, cuts those that did not, and returns nil. It returns an error only where serving itself fails.
func (l Limits) Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var open connections
	// Requests do not end with ctx, but a stream, which would not end by itself, is told.
	base := withStopping(context.WithoutCancel(ctx), ctx)
	srv := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           h,
		ReadHeaderTimeout: l.ReadHeader,
		ReadTimeout:       l.Read,
		WriteTimeout:      l.Write,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    max(1, l.Header-headerSlop),
		ErrorLog:          stdlog.New(complaints{log}, "", 0),
		ConnContext:       noticeVanished,
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

	// The caller's context has ended, which is why we are here: stopping needs one of its own.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Grace)
	defer cancel()
	if err := srv.Shutdown(stopping); err != nil {
		log.Warn("requests were cut off at the end of the grace period", "address", ln.Addr().String(), "error", err)
		_ = srv.Close() // what it could not close is closed already
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		log.Warn("serving ended with an error", "address", ln.Addr().String(), "error", err)
	}
	if left := open.wait(cutOff); left > 0 {
		log.Warn("handlers are still running", "address", ln.Addr().String(), "connections", left)
	}
	return nil
}

// complaints takes the lines that net/http has about connections. Strangers cause handshakes that fail, as many as they like, so those are details.
type complaints struct{ log *slog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	text, level := strings.TrimSpace(string(line)), slog.LevelWarn
	if strings.HasPrefix(text, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, text)
	return len(line), nil
}

// connections counts the connections that a server's goroutines are at work on.
type connections struct {
	mu      sync.Mutex
	n       int
	changed chan struct{} // closed at the next change, where somebody waits
}

// note is an http.Server's ConnState.
func (c *connections) note(_ net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		c.n++
	case http.StateClosed, http.StateHijacked:
		c.n--
	default:
		return
	}
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// wait returns how many connections are left when none is, or after d.
func (c *connections) wait(d time.Duration) int {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		n := c.n
		if n > 0 && c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		if n == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-timeout.C:
			return n
		}
	}
}
