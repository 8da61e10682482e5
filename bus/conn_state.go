package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// connState says whether a connection is up. The NATS client cannot be asked: while it dials, or
// waits for the first bytes of a silent server, it holds a lock that blocks every call, whatever
// the call's context says. So nothing is started on a lost connection.
type connState struct {
	mu sync.Mutex
	up chan struct{} // closed while the connection is up; replaced each time it is lost
}

func newConnState() *connState { return &connState{up: make(chan struct{})} }

func (s *connState) setUp(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch was := isClosed(s.up); {
	case up && !was:
		close(s.up)
	case !up && was:
		s.up = make(chan struct{})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *connState) isUp() bool { return isClosed(s.whenUp()) }

// whenUp returns a channel that is closed while the connection is up.
func (s *connState) whenUp() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// ErrDown says that there is no connection to NATS.
var ErrDown = errors.New("there is no connection to NATS")

// IsUp reports whether the connection is up.
func (c *Conn) IsUp() bool { return c.state.isUp() }

// AwaitUp returns nil once the connection is up, or ErrDown when ctx ends.
func (c *Conn) AwaitUp(ctx context.Context) error {
	up := c.state.whenUp()
	if isClosed(up) {
		return nil
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrDown, ctx.Err())
	}
}

// SameConnection returns a function that reports whether the connection has stayed up since. An
// answer must go out on the connection that brought the request: after a reconnect nobody waits for
// it, and the new server takes it for an intrusion.
func (c *Conn) SameConnection() func() bool {
	up := c.state.whenUp()
	was := isClosed(up)
	return func() bool { return was && c.state.whenUp() == up }
}

// Request asks for one answer, once the connection is up.
func (c *Conn) Request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	return c.nc.RequestMsgWithContext(ctx, m)
}

// Stream returns a stream as its leader describes it, once the connection is up. It fails after
// AttemptPatience, and where the leader cannot tell whether it still leads.
func (c *Conn) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	err := c.AwaitUp(ctx)
	var s jetstream.Stream
	if err == nil {
		s, err = c.js.Stream(ctx, name)
	}
	if err == nil {
		err = hasQuorum(s.CachedInfo())
	}
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	return s, nil
}

// Publish stores a message in a stream, once the connection is up.
func (c *Conn) Publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	return c.js.PublishMsg(ctx, m, opts...)
}

// Send publishes a message on core NATS, where it may be lost. It fails at once with ErrDown while
// the connection is lost.
func (c *Conn) Send(m *nats.Msg) error {
	if !c.IsUp() {
		return ErrDown
	}
	return c.nc.PublishMsg(m)
}

// GiveBack lets NATS redeliver a consumer's message at once. While the connection is lost it fails
// at once with ErrDown, and NATS redelivers the message after the consumer's AckWait.
func (c *Conn) GiveBack(m jetstream.Msg) error {
	if !c.IsUp() {
		return ErrDown
	}
	return m.Nak()
}

// KeepWorking tells NATS that a consumer's message is still being worked on. It fails at once with
// ErrDown while the connection is lost.
func (c *Conn) KeepWorking(m jetstream.Msg) error {
	if !c.IsUp() {
		return ErrDown
	}
	return m.InProgress()
}

// Farewell returns a context for a last favour to other processes after ctx has ended. It is short,
// so that it cannot hold up the shutdown.
func Farewell(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), farewell)
}

const farewell = time.Second
