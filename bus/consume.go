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
type shared struct {
	stream, consumer string
	// wait is how long the server waits for an instance that is silent about a message, before another one gets it; and how long an
	// instance tries one in vain, before it leaves that to another.
	wait time.Duration
	fit  func(context.Context) error // why this instance must leave the messages to others, or nil; nil: it never must
	do   func(context.Context, stored) error
}

// unfit returns why this instance must leave the messages to others.
func (s shared) unfit(ctx context.Context) error {
	if s.fit == nil {
		return nil
	}
	return s.fit(ctx)
}

// consume takes messages until ctx ends, and does something with each. What it cannot do it leaves to others after a while.
func (l *Ledger) consume(ctx context.Context, s shared) {
	pace := newBackOff()
	failing := time.Now() // since when, or since it was last told
	for ctx.Err() == nil {
		began := time.Now()
		err := s.unfit(ctx)
		if err == nil {
			err = l.consuming(ctx, s, func() {
				pace.Reset()
				failing = time.Now()
			})
		}
		if ctx.Err() != nil {
			return
		}
		level, now := l.log.Debug, time.Now()
		switch {
		case errors.Is(err, errLeftToOthers), now.Sub(failing) > s.wait && now.Sub(began) < s.wait:
			level, failing = l.log.Warn, now
		case now.Sub(began) >= s.wait: // it has waited for messages meanwhile
			failing = now
		}
		retry := pace.NextBackOff()
		level("this instance leaves work to others", "consumer", s.consumer, "error", err, "retry_in", retry)
		pause(ctx, retry)
	}
}

// errLeftToOthers is that something was tried in vain for too long.
var errLeftToOthers = errors.New("it could not be done here")

// consuming takes messages until something breaks. What has been taken and not done then is given back, so that another instance
// does it at once.
func (l *Ledger) consuming(ctx context.Context, s shared, working func()) error {
	name := s.consumer
	look, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	if err := l.conn.link.wait(look); err != nil {
		return err
	}
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
	var leaving error // why nothing more is done here
	for {
		m, err := messages.Next()
		if err != nil {
			return cmp.Or(leaving, fmt.Errorf("read consumer %s: %w", name, err))
		}
		if leaving == nil {
			leaving = l.insist(ctx, m, s)
		}
		if leaving == nil {
			if err := m.Ack(); err != nil {
				return fmt.Errorf("acknowledge to consumer %s: %w", name, err)
			}
			working()
			continue
		}
		messages.Drain()
		if err := l.conn.giveBack(m); err != nil {
			return errors.Join(leaving, fmt.Errorf("give back to consumer %s: %w", name, err))
		}
	}
}

// insist does what a message is for, and says meanwhile that somebody is at it. It returns ctx's error, or why others have to do it:
// this instance is not fit for it, or has failed for as long as the server waits for a silent one.
func (l *Ledger) insist(ctx context.Context, m jetstream.Msg, s shared) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", s.consumer, err)
	}
	at := stored{subject: m.Subject(), header: m.Headers(), data: m.Data(), seq: meta.Sequence.Stream, at: meta.Timestamp}
	pace := newBackOff()
	began := time.Now()
	said := began
	for {
		if err := cmp.Or(ctx.Err(), s.unfit(ctx)); err != nil {
			return err
		}
		err := s.do(ctx, at)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > s.wait:
			return fmt.Errorf("%s: %w: %w", at.subject, errLeftToOthers, err)
		}
		retry := pace.NextBackOff()
		l.log.Debug("what is to be done has to wait", "subject", at.subject, "error", err, "retry_in", retry)
		if time.Since(said) > s.wait/4 {
			said = time.Now()
			if err := l.conn.keep(m); err != nil { // another one will do it as well, which is no harm
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
