package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/retry"
)

const (
	feedPatience = 5 * time.Second        // then one that cannot go on leaves its turn
	feedRest     = 3 * turnLook           // and does not take it again for so long
	feedRetry    = 100 * time.Millisecond // between two tries
)

// A publisher is one instance that publishes the feed, or waits for its turn.
type publisher struct {
	ledger   *ledger.Ledger
	follower *ledger.Follower
	owner    string
	lag      prometheus.Gauge
	delay    prometheus.Histogram
	waited   prometheus.Histogram
}

func newPublisher(l *ledger.Ledger, f *ledger.Follower) *publisher {
	return &publisher{
		ledger: l, follower: f, owner: booking.NewID(),
		lag: bus.MustRegister(l.Conn().Registerer(), prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "feed_lag",
			Help: "Messages of the ledger that this instance has yet to tell watchers of; 0 where another one does.",
		})),
		delay: bus.MustRegister(l.Conn().Registerer(), prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "pillion", Name: "feed_delay_seconds",
			Help: "Time from the storing of an event, by NATS's clock, until this instance has told watchers " +
				"of it, by its own, in seconds.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		})),
		waited: bus.MustRegister(l.Conn().Registerer(), prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "pillion", Name: "booking_accept_seconds",
			Help: "Time from a booking's request to an acceptance of it, in seconds, counted by the instance " +
				"that tells watchers of it.",
			Buckets: []float64{1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 300, 600},
		})),
	}
}

func (p *publisher) log() *slog.Logger { return p.ledger.Conn().Log() }

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	rested := time.Now()
	for {
		t := p.take(ctx, rested)
		if t == nil {
			return
		}
		p.log().Info("this instance publishes the feed", "after", t.done)
		err := p.publish(ctx, t)
		p.lag.Set(0)
		if ctx.Err() != nil {
			return
		}
		p.log().Warn("this instance leaves the feed to others", "error", err)
		rested = time.Now().Add(feedRest)
	}
}

// take waits for a turn, at least until this instance has rested, and returns it. It returns nil
// when ctx ends.
func (p *publisher) take(ctx context.Context, rested time.Time) *turn {
	var seen uint64     // the revision of the record as last looked at
	var since time.Time // when it was seen first
	for ; ; retry.Sleep(ctx, turnLook) {
		if ctx.Err() != nil {
			return nil
		}
		if err := p.follower.Fit(ctx); err != nil || time.Now().Before(rested) {
			continue
		}
		r, revision, err := p.ledger.Conn().FeedTurn(ctx)
		switch {
		case errors.Is(err, bus.ErrNoKey):
			// the revision of a deleted record does not matter
			r.Done, _, err = p.ledger.Conn().FeedBegins(ctx)
			revision = 0
		case err == nil && r.Owner != "" && r.Owner != p.owner:
			if revision != seen {
				seen, since = revision, time.Now() // the owner's renewal was before
			}
			if time.Since(since) <= turnTaken {
				continue
			}
		}
		var last uint64
		if err == nil {
			last, err = p.ledger.LastSequence(ctx)
		}
		t := &turn{conn: p.ledger.Conn(), owner: p.owner, revision: revision}
		if err == nil {
			err = t.write(ctx, p.owner, min(r.Done, last))
		}
		if err == nil {
			return t
		}
		p.log().Debug("the turn to publish the feed is not taken", "error", err)
	}
}

// publish publishes until the turn is over or ctx ends, and gives the turn back. It returns why it
// cannot go on.
func (p *publisher) publish(ctx context.Context, t *turn) error {
	never := func() bool { return false }
	same := never
	var changes *ledger.Subscription
	well := time.Now() // when everything was, the last time
	for {
		if !same() { // what was told on another connection may be lost
			same, changes = p.ledger.Conn().SameConnection(), p.follower.Subscribe(t.done)
		}
		found, err := changes.Take(ctx)
		if err == nil {
			if err = p.tell(ctx, t, found); err != nil {
				same = never
			}
		}
		if err == nil && !time.Now().Before(t.due(changes.Seq())) {
			err = p.save(ctx, t, p.owner, changes.Seq(), same)
		}
		p.lag.Set(float64(p.follower.Board().Seq() - min(changes.Seq(), p.follower.Board().Seq())))
		err = cmp.Or(ctx.Err(), err, p.follower.Fit(ctx))
		if err == nil {
			well = time.Now()
			if err = p.wait(ctx, changes.More(), time.Until(t.due(changes.Seq()))); err == nil {
				continue
			}
		}
		if errors.Is(err, errTurnOver) {
			return err
		}
		if ctx.Err() != nil || time.Since(well) > feedPatience {
			p.leave(ctx, t, changes.Seq(), same)
			return err
		}
		p.log().Debug("the feed has to wait", "error", err)
		retry.Sleep(ctx, feedRetry)
	}
}

// wait returns when there is more to take, or after a time.
func (p *publisher) wait(ctx context.Context, more <-chan struct{}, most time.Duration) error {
	due := time.NewTimer(most)
	defer due.Stop()
	select {
	case <-more:
	case <-due.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// tell publishes changes, as long as the turn is valid.
func (p *publisher) tell(ctx context.Context, t *turn, changes []*ledger.Change) error {
	for _, c := range changes {
		if !t.valid() {
			if err := t.renew(ctx, p.owner, t.done); err != nil {
				return err
			}
		}
		_, span := c.Process(ctx, p.ledger.Conn().Tracer(), "feed", time.Time{})
		err := p.tellOf(c)
		span.End(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// tellOf publishes one change. Watchers learn nothing of its trace.
func (p *publisher) tellOf(c *ledger.Change) error {
	messages, err := feedMessages(c)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := p.ledger.Conn().Send(m); err != nil {
			return bus.Unavailable("publish to the feed", err)
		}
	}
	p.delay.Observe(max(0, time.Since(c.Event.At).Seconds())) // the clocks are two
	if c.Event.Kind == booking.Accepted {
		p.waited.Observe(c.Event.At.Sub(c.After.RequestedAt).Seconds())
	}
	return nil
}

// save renews the turn for an owner, with how far this instance has told, once NATS has all of
// that.
func (p *publisher) save(ctx context.Context, t *turn, owner string, told uint64, same func() bool) error {
	if told > t.done {
		flush, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
		defer cancel()
		if err := p.ledger.Conn().NATS().FlushWithContext(flush); err != nil {
			return fmt.Errorf("flush the feed: %w", err)
		}
		if !same() {
			return bus.ErrDown
		}
	}
	return t.renew(ctx, owner, told)
}

// leave gives the turn to another instance, which would otherwise wait for turnTaken.
func (p *publisher) leave(ctx context.Context, t *turn, told uint64, same func() bool) {
	if !p.ledger.Conn().IsUp() {
		return
	}
	if !same() {
		told = t.done
	}
	ctx, cancel := bus.Farewell(ctx)
	defer cancel()
	if err := p.save(ctx, t, "", told, same); err != nil {
		p.log().Debug("the feed has to wait for the turn of this instance to end", "error", err, "at_most", turnTaken)
	}
}
