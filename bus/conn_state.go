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

// A link is whether a connection is up. The client itself cannot be asked: while it dials, and waits for the first word of a server that does not answer,
// it holds a lock for which all of its calls wait, whatever their contexts say. So on a connection that is lost nothing is begun.
type connState struct {
	mu sync.Mutex
	up chan struct{} // closed while it is; another one each time that it is lost
}

func newConnState() *connState { return &connState{up: make(chan struct{})} }

// set notes whether the connection is up.
func (l *connState) setUp(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch was := l.isClosed(); {
	case up && !was:
		close(l.up)
	case !up && was:
		l.up = make(chan struct{})
	}
}

func (l *connState) isClosed() bool {
	select {
	case <-l.up:
		return true
	default:
		return false
	}
}

// is reports whether the connection is up.
func (l *connState) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isClosed()
}

// Held returns a function that reports whether the connection is still up since. What was asked on a connection must not be answered on the next one: who
// asked waits for nothing any more, and the server there, which has not brought the question, takes the answer for an intrusion.
func (c *Conn) SameConnection() func() bool { return c.state.sameConnection() }

func (l *connState) sameConnection() func() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	up, was := l.up, l.isClosed()
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return was && l.up == up
	}
}

var ErrDown = errors.New("there is no connection to NATS")

// now returns a channel that is closed while the connection is up.
func (l *connState) now() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// wait returns when the connection is up, or with an error when ctx ends.
func (l *connState) wait(ctx context.Context) error {
	up := l.now()
	select {
	case <-up:
		return nil
	default:
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrDown, ctx.Err())
	}
}

// request asks for one answer, once the connection is up.
func (c *Conn) Request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	if err := c.state.wait(ctx); err != nil {
		return nil, err
	}
	return c.nc.RequestMsgWithContext(ctx, m)
}

// stream returns a stream as its leader has it, once the connection is up. It fails where the leader cannot know whether it still is one.
func (c *Conn) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	if err := c.state.wait(ctx); err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	if err := hasQuorum(s.CachedInfo()); err != nil {
		return nil, err
	}
	return s, nil
}

// publish stores a message in a stream, once the connection is up.
func (c *Conn) Publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if err := c.state.wait(ctx); err != nil {
		return nil, err
	}
	return c.js.PublishMsg(ctx, m, opts...)
}

// farewell returns a context for what a process still does for others when ctx has ended. It must not hold up the end.
func Farewell(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Second)
}

// giveBack lets the server give a message of a consumer to somebody at once. It fails at once where the connection is lost: the
// server gives it then when nothing has been heard of it for a while.
func (c *Conn) GiveBack(m jetstream.Msg) error {
	if !c.state.isUp() {
		return ErrDown
	}
	return m.Nak()
}

// keep says that somebody is still at a message of a consumer. It fails at once where the connection is lost.
func (c *Conn) KeepWorking(m jetstream.Msg) error {
	if !c.state.isUp() {
		return ErrDown
	}
	return m.InProgress()
}

// tell publishes a message that nobody has to hear. It fails at once where the connection is lost.
func (c *Conn) Send(m *nats.Msg) error {
	if !c.state.isUp() {
		return ErrDown
	}
	return c.nc.PublishMsg(m)
}

// IsUp reports whether the connection is up.
func (c *Conn) IsUp() bool { return c.state.isUp() }

// AwaitUp returns when the connection is up, or with ErrDown when ctx ends.
func (c *Conn) AwaitUp(ctx context.Context) error { return c.state.wait(ctx) }
