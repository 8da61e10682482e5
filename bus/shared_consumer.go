package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/internal/retry"
	"github.com/nats-io/nats.go/jetstream"
)

// A SharedConsumer is this instance's part in a durable consumer that all instances share.
type SharedConsumer struct {
	Stream, Name string
	// Wait is the consumer's AckWait: how long NATS waits for an instance that is silent about a
	// message, before it redelivers the message to another one. An instance that has tried in vain
	// for as long leaves the message to the others.
	Wait time.Duration
	// Fit returns why this instance must leave the work to the others at the moment, or nil. A nil
	// Fit never does.
	Fit func(context.Context) error
	// Do does the work of one message. It may be called again for the same message. Its context
	// ends after half of Wait, so that NATS can be told that work goes on.
	Do func(context.Context, Message) error
}

func (s SharedConsumer) unfit(ctx context.Context) error {
	if s.Fit == nil {
		return nil
	}
	return s.Fit(ctx)
}

// Consume does the work of one message after the other until ctx ends.
func (c *Conn) Consume(ctx context.Context, s SharedConsumer) {
	failing := time.Now() // since when, or since the last warning
	var began time.Time
	p := Retries(0)
	p.Notify = func(err error, wait time.Duration) {
		level, now := c.log.Debug, time.Now()
		switch {
		case errors.Is(err, errLeftToOthers), now.Sub(failing) > s.Wait && now.Sub(began) < s.Wait:
			level, failing = c.log.Warn, now
		case now.Sub(began) >= s.Wait: // it was idle, not failing
			failing = now
		}
		level("this instance leaves work to others", "consumer", s.Name, "error", err, "retry_in", wait)
	}
	_ = p.Keep(ctx, func(progress func()) error {
		began = time.Now()
		if err := s.unfit(ctx); err != nil {
			return err
		}
		return c.consumeOnce(ctx, s, func() {
			progress()
			failing = time.Now()
		})
	})
}

// errLeftToOthers says that this instance has tried in vain for too long.
var errLeftToOthers = errors.New("it could not be done here")

// consumeOnce works until something breaks. It gives back what it has received and not done, so
// that another instance gets it at once.
func (c *Conn) consumeOnce(ctx context.Context, s SharedConsumer, progress func()) error {
	consumer, err := c.Consumer(ctx, s.Stream, s.Name)
	if err != nil {
		return err
	}
	// One at a time: a message that waited here would be redelivered to another instance meanwhile.
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullHeartbeat(taskHeartbeat))
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", s.Name, err)
	}
	// A server that says nothing ends no drain, so what waits for a message ends a second later.
	waiting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() {
		messages.Drain()
		time.AfterFunc(farewell, end)
	})()
	defer messages.Stop()
	var leaving error // why nothing more is done here
	for {
		m, err := messages.Next(jetstream.NextContext(waiting))
		if err != nil {
			return cmp.Or(leaving, fmt.Errorf("read consumer %s: %w", s.Name, err))
		}
		if leaving == nil {
			leaving = c.retryUntilDone(ctx, m, s)
		}
		if leaving == nil {
			if err := m.Ack(); err != nil {
				return fmt.Errorf("acknowledge to consumer %s: %w", s.Name, err)
			}
			progress()
			continue
		}
		messages.Drain()
		if err := c.GiveBack(m); err != nil {
			return errors.Join(leaving, fmt.Errorf("give back to consumer %s: %w", s.Name, err))
		}
	}
}

// Consumer returns a consumer, which Provision has created: with the permission to create
// consumers, a service could redirect their messages.
func (c *Conn) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	consumer, err := c.js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, fmt.Errorf("look for consumer %s: %w", name, err)
	}
	return consumer, nil
}

// retryUntilDone does the work of a message, and tells NATS meanwhile that it is being done. It
// returns ctx's error, or why the message must go to another instance: this one is not fit, or has
// failed for as long as NATS waits for a silent one.
func (c *Conn) retryUntilDone(ctx context.Context, m jetstream.Msg, s SharedConsumer) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", s.Name, err)
	}
	message := messageOf(m, meta)
	began := time.Now()
	told := began
	p := Retries(0)
	p.Notify = func(err error, wait time.Duration) {
		c.log.Debug("work on a message is retried", "subject", message.Subject, "error", err, "retry_in", wait)
		if time.Since(told) > s.Wait/4 {
			told = time.Now()
			if err := c.KeepWorking(m); err != nil { // another instance does it as well, harmlessly
				c.log.Debug("NATS cannot be told that work goes on", "error", err)
			}
		}
	}
	return p.Do(ctx, func() error {
		if err := cmp.Or(ctx.Err(), s.unfit(ctx)); err != nil {
			return retry.Permanent(err)
		}
		limited, cancel := context.WithTimeout(ctx, s.Wait/2)
		defer cancel()
		err := s.Do(limited, message)
		if err != nil && ctx.Err() == nil && time.Since(began) > s.Wait {
			err = retry.Permanent(fmt.Errorf("%s: %w: %w", message.Subject, errLeftToOthers, err))
		}
		return err
	})
}
