package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A shared consumer is one that all instances share, as one of them takes part in it.
type SharedConsumer struct {
	Stream, Name string
	// wait is how long the server waits for an instance that is silent about a message, before another one gets it; and how long an
	// instance tries one in vain, before it leaves that to another.
	Wait time.Duration
	Fit  func(context.Context) error // why this instance must leave the messages to others, or nil; nil: it never must
	Do   func(context.Context, Message) error
}

// unfit returns why this instance must leave the messages to others.
func (s SharedConsumer) unfit(ctx context.Context) error {
	if s.Fit == nil {
		return nil
	}
	return s.Fit(ctx)
}

// consume takes messages until ctx ends, and does something with each. What it cannot do it leaves to others after a while.
func (c *Conn) Consume(ctx context.Context, s SharedConsumer) {
	pace := NewBackOff()
	failing := time.Now() // since when, or since it was last told
	for ctx.Err() == nil {
		began := time.Now()
		err := s.unfit(ctx)
		if err == nil {
			err = c.consumeOnce(ctx, s, func() {
				pace.Reset()
				failing = time.Now()
			})
		}
		if ctx.Err() != nil {
			return
		}
		level, now := c.log.Debug, time.Now()
		switch {
		case errors.Is(err, errLeftToOthers), now.Sub(failing) > s.Wait && now.Sub(began) < s.Wait:
			level, failing = c.log.Warn, now
		case now.Sub(began) >= s.Wait: // it has waited for messages meanwhile
			failing = now
		}
		retry := pace.NextBackOff()
		level("this instance leaves work to others", "consumer", s.Name, "error", err, "retry_in", retry)
		Pause(ctx, retry)
	}
}

// errLeftToOthers is that something was tried in vain for too long.
var errLeftToOthers = errors.New("it could not be done here")

// consuming takes messages until something breaks. What has been taken and not done then is given back, so that another instance
// does it at once.
func (c *Conn) consumeOnce(ctx context.Context, s SharedConsumer, working func()) error {
	name := s.Name
	look, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	if err := c.state.wait(look); err != nil {
		return err
	}
	consumer, err := c.js.Consumer(look, s.Stream, name) // Provision has made it: who may change a consumer may send its messages anywhere
	if err != nil {
		return fmt.Errorf("look for consumer %s: %w", name, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(TaskBatch), jetstream.PullHeartbeat(readerHeartbeat))
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", name, err)
	}
	defer context.AfterFunc(ctx, messages.Drain)()
	defer messages.Stop()
	var leaving error // why nothing more is done here
	for {
		m, err := messages.Next()
		if err != nil {
			return cmp.Or(leaving, fmt.Errorf("read consumer %s: %w", name, err))
		}
		if leaving == nil {
			leaving = c.retryUntilDone(ctx, m, s)
		}
		if leaving == nil {
			if err := m.Ack(); err != nil {
				return fmt.Errorf("acknowledge to consumer %s: %w", name, err)
			}
			working()
			continue
		}
		messages.Drain()
		if err := c.GiveBack(m); err != nil {
			return errors.Join(leaving, fmt.Errorf("give back to consumer %s: %w", name, err))
		}
	}
}

// insist does what a message is for, and says meanwhile that somebody is at it. It returns ctx's error, or why others have to do it:
// this instance is not fit for it, or has failed for as long as the server waits for a silent one.
func (c *Conn) retryUntilDone(ctx context.Context, m jetstream.Msg, s SharedConsumer) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", s.Name, err)
	}
	at := Message{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Seq: meta.Sequence.Stream, StoredAt: meta.Timestamp}
	pace := NewBackOff()
	began := time.Now()
	said := began
	for {
		if err := cmp.Or(ctx.Err(), s.unfit(ctx)); err != nil {
			return err
		}
		err := s.Do(ctx, at)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > s.Wait:
			return fmt.Errorf("%s: %w: %w", at.Subject, errLeftToOthers, err)
		}
		retry := pace.NextBackOff()
		c.log.Debug("what is to be done has to wait", "subject", at.Subject, "error", err, "retry_in", retry)
		if time.Since(said) > s.Wait/4 {
			said = time.Now()
			if err := c.KeepWorking(m); err != nil { // another one will do it as well, which is no harm
				c.log.Debug("it cannot be said that work goes on", "error", err)
			}
		}
		Pause(ctx, retry)
	}
}
