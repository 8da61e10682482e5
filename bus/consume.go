package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A shared consumer is one that all instances share, as one of them takes part in it.
type shared struct {
	stream, consumer string
	wait             time.Duration // how long the server waits for an instance before another one gets the message
	fit              func() error  // why this instance must leave the messages to others, or nil; nil: it never must
	do               func(context.Context, stored) error
}

// unfit returns why this instance must leave the messages to others.
func (s shared) unfit() error {
	if s.fit == nil {
		return nil
	}
	return s.fit()
}

// consume takes messages until ctx ends, and does something with each until that succeeds.
func (l *Ledger) consume(ctx context.Context, s shared) {
	pace := newBackOff()
	for ctx.Err() == nil {
		err := s.unfit()
		if err == nil {
			err = l.consuming(ctx, s, pace.Reset)
		}
		if ctx.Err() != nil {
			return
		}
		retry := pace.NextBackOff()
		l.log.Debug("consumer interrupted", "consumer", s.consumer, "error", err, "retry_in", retry)
		pause(ctx, retry)
	}
}

// consuming takes messages until something breaks.
func (l *Ledger) consuming(ctx context.Context, s shared, working func()) error {
	name := s.consumer
	look, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	consumer, err := l.js.Consumer(look, s.stream, name) // Provision has made it: who may change a consumer may send its messages anywhere
	if err != nil {
		return fmt.Errorf("look for consumer %s: %w", name, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(dutyAtOnce), jetstream.PullHeartbeat(readerHeartbeat))
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", name, err)
	}
	defer context.AfterFunc(ctx, messages.Drain)()
	defer messages.Stop()
	for {
		m, err := messages.Next()
		if err != nil {
			return fmt.Errorf("read consumer %s: %w", name, err)
		}
		if ctx.Err() != nil { // what has been taken and not begun is given back, so that another instance does it at once
			if err := m.Nak(); err != nil {
				return fmt.Errorf("give back to consumer %s: %w", name, err)
			}
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read consumer %s: %w", name, err)
		}
		at := stored{subject: m.Subject(), header: m.Headers(), data: m.Data(), seq: meta.Sequence.Stream, at: meta.Timestamp}
		if err := l.insist(ctx, m, s, func() error { return s.do(ctx, at) }); err != nil { // it was told to stop, or to leave it to others
			if err := m.Nak(); err != nil {
				return fmt.Errorf("give back to consumer %s: %w", name, err)
			}
			if ctx.Err() == nil {
				return err
			}
			continue
		}
		if err := m.Ack(); err != nil {
			return fmt.Errorf("acknowledge to consumer %s: %w", name, err)
		}
		working()
	}
}

// insist does work until it succeeds, and says meanwhile that somebody is at it. It returns ctx's error, or why others have to do it.
func (l *Ledger) insist(ctx context.Context, m jetstream.Msg, s shared, work func() error) error {
	pace := newBackOff()
	said := time.Now()
	for {
		if err := s.unfit(); err != nil {
			return err
		}
		err := work()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		retry := pace.NextBackOff()
		l.log.Debug("what is to be done has to wait", "subject", m.Subject(), "error", err, "retry_in", retry)
		if time.Since(said) > s.wait/4 {
			said = time.Now()
			l.log.Warn("what is to be done has to wait", "subject", m.Subject(), "error", err)
			if err := m.InProgress(); err != nil { // another one will do it as well, which is no harm
				l.log.Debug("it cannot be said that work goes on", "error", err)
			}
		}
		pause(ctx, retry)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
