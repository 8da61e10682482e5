// Package bus is NATS whose leader's word can be trusted: connections, provisioning, and reads and
// writes that survive a change of leader.
//
// Begin with [Connect], which returns at once and reconnects by itself. [Provision] creates the
// streams, buckets and consumers; one process at a time runs it, and all others wait for its
// result. The packages below build on that: bus/ledger stores and re-verifies events, bus/trust
// distributes keys and revocations, bus/feed informs watchers.
//
// Package bus says what a stream's leader has stored, and nothing about whether that is genuine:
// any publisher with the permission can write a message. bus/ledger checks tokens; bus/access says
// who may publish.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
)

// Errors of a connection. All are worth another try.
var (
	ErrUnavailable = fault.New(fault.Unavailable, "bus_unavailable",
		"The booking system cannot reach its message bus at the moment. Please try again in a few seconds.").
		After(2 * time.Second)
	// ErrUnreachable is for operators, with the address and the reason.
	ErrUnreachable = fault.New(fault.Unavailable, "nats_unreachable",
		"NATS cannot be reached. See that it is running, and that --nats-url is right.").After(2 * time.Second)
	ErrNotLetIn = fault.New(fault.Unavailable, "not_let_in",
		"The NATS server rejected the key of this process, or requires none. See docs/nats-access.md.").
		After(2 * time.Second)
)

// A Conn is one connection to NATS. Close it.
type Conn struct {
	nc            *nats.Conn
	js            jetstream.JetStream
	log           *slog.Logger
	tracer        *tracing.Tracer
	registerer    prometheus.Registerer
	logged        *loggedOnce
	state         *connState
	everConnected bool // guarded by state.mu
	begun         time.Time
	servers       *servers // nil: there is one, in this process
	leases        leases
	writes        writes
	closed        chan struct{}
}

// loggedOnce remembers why there is no connection, so that the connections of one process do not
// all log the same sentence.
type loggedOnce struct{ sentences sync.Map }

func (l *loggedOnce) first(sentence string) bool {
	_, before := l.sentences.LoadOrStore(sentence, true)
	return !before
}

func (l *loggedOnce) forget() { l.sentences.Clear() }

// NATS returns the client's connection, for everything that Conn does not wrap. The Conn owns it.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream returns the JetStream context of the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Log returns the connection's logger.
func (c *Conn) Log() *slog.Logger { return c.log }

// Tracer returns what makes the spans of messages on the connection, or nil.
func (c *Conn) Tracer() *tracing.Tracer { return c.tracer }

// Registerer returns the registry for the counters of this process, or nil.
func (c *Conn) Registerer() prometheus.Registerer { return c.registerer }

// Ready returns nil while the connection is up. Otherwise it returns the reason, in a sentence that
// tells operators what to do: ErrUnreachable, ErrNotLetIn, ErrNotTrusted or ErrNotEncrypted.
func (c *Conn) Ready(context.Context) error {
	switch {
	case isClosed(c.closed):
		return ErrUnavailable.Because(nats.ErrConnectionClosed)
	case c.IsUp():
		return nil
	case c.servers == nil:
		return ErrUnavailable.Because(ErrDown)
	}
	return c.servers.why()
}

// Reach waits for the connection. It returns nil once that is up, or Ready's error when ctx ends or
// soon after every server was tried in vain. It suits programs that can do nothing without NATS.
func (c *Conn) Reach(ctx context.Context) error {
	up := c.state.whenUp()
	soon := time.NewTimer(reachPatience - time.Since(c.begun))
	defer soon.Stop()
	var allTried <-chan struct{}
	for {
		select {
		case <-up:
			return nil
		case <-ctx.Done():
			return c.Ready(ctx)
		case <-allTried:
			return c.Ready(ctx)
		case <-soon.C:
			if c.servers == nil {
				return c.Ready(ctx)
			}
			allTried = c.servers.allTried
		}
	}
}

// EverConnected returns ErrUnavailable as long as no server has ever been reached, so that callers
// fail at once instead of waiting for a server that may not exist.
func (c *Conn) EverConnected() error {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if !c.everConnected {
		return ErrUnavailable.Because(errors.New("NATS has not been reached yet"))
	}
	return nil
}

// Close finishes pending work and closes the connection, at the latest when ctx ends. What is cut
// short then is not lost: every write that matters waits for its acknowledgement, and NATS delivers
// messages again that are not acknowledged. So that is a warning in the log, and no error.
func (c *Conn) Close(ctx context.Context) {
	if err := c.nc.Drain(); err != nil { // not connected: there is nothing to drain
		c.nc.Close()
	}
	select {
	case <-c.closed:
	case <-ctx.Done():
		c.log.Warn("the connection to NATS was closed before its work was finished", "error", context.Cause(ctx))
		c.nc.Close()
	}
}

// Unavailable wraps a failure of NATS for a caller. A fault stays as it is.
func Unavailable(op string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return ErrUnavailable.Because(fmt.Errorf("%s: %w", op, err))
}
