package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The feed has the ledger's order, although many events are prepared at the same time. The server
// gives all messages to one instance as long as that keeps asking (a pinned client). Messages that
// a dead instance had received are redelivered before another instance may take its place: feedPull
// + FeedWait < FeedPin.
const (
	prepareLimit = 16              // bookings that are read at the same time
	feedPull     = time.Second     // how long one request waits for messages
	feedLease    = 4 * time.Second // after the request, how long its messages may be published

	headerPin = "Nats-Pin-Id"
)

// A publisher is one instance that publishes the feed, or waits for its turn.
type publisher struct {
	ledger   *ledger.Ledger
	consumer jetstream.Consumer // remembers the pin as well; nil: not found yet
	pin      string             // names this instance's turn
	// whether everything older than the next message is published, or comes before it
	inOrder bool
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	defer p.leave(ctx)
	published := time.Now()
	retries := bus.Retries(0)
	retries.Notify = func(err error, wait time.Duration) {
		level := p.log().Debug
		if time.Since(published) > bus.FeedWait {
			level, published = p.log().Warn, time.Now()
			p.leave(ctx) // another instance may do better
		}
		level("the feed has to wait", "error", err, "retry_in", wait)
	}
	_ = retries.Keep(ctx, func(progress func()) error {
		return p.work(ctx, func() {
			progress()
			published = time.Now()
		})
	})
}

func (p *publisher) log() *slog.Logger { return p.ledger.Conn().Log() }

// leave gives this instance's turn to another one, which would otherwise wait for FeedPin, or for
// ever. Messages in flight here have been given back, or are held at the beginning of the next
// turn.
func (p *publisher) leave(ctx context.Context) {
	if p.pin == "" || !p.ledger.Conn().IsUp() {
		return
	}
	ctx, cancel := bus.Farewell(ctx)
	defer cancel()
	stream, err := p.ledger.Conn().Stream(ctx, bus.LedgerStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, bus.FeedConsumer, bus.FeedGroup)
	}
	if err != nil {
		p.log().Debug("the feed has to wait for the turn of this instance to expire", "error", err, "at_most",
			bus.FeedPin)
	}
	p.pin, p.inOrder = "", false
}

// work takes messages and publishes until something breaks. It calls working whenever nothing has.
func (p *publisher) work(ctx context.Context, working func()) error {
	if err := p.find(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		next := p.begin
		if p.inOrder {
			next = p.next
		}
		held := p.ledger.Conn().SameConnection()
		p.inOrder = false // until the fate of all messages is known
		err := next(ctx)
		// messages in flight on a lost connection are redelivered later
		p.inOrder = p.inOrder && held()
		if err != nil {
			return err
		}
		working()
	}
	return ctx.Err()
}

// next publishes what the server delivers during this instance's turn.
func (p *publisher) next(ctx context.Context) error {
	until := time.Now().Add(feedLease)
	batch, err := p.take(ctx, bus.FeedBatch)
	if err != nil {
		return err
	}
	if err := p.batch(ctx, batch.Messages(), until); err != nil {
		return err
	}
	return p.ended(batch)
}

// begin waits for this instance's turn, and continues where the previous instance has ended. A new
// leader of the consumer does not know whose turn it is, and delivers new messages while other
// instances still work on older ones. So the first message comes alone; where others are in flight,
// it is held until they are acknowledged or redelivered.
func (p *publisher) begin(ctx context.Context) error {
	until := time.Now().Add(feedLease)
	batch, err := p.take(ctx, 1)
	if err != nil {
		return err
	}
	held := collect(batch)
	if len(held) == 0 {
		return p.ended(batch)
	}
	p.pin = held[0].Headers().Get(headerPin)
	info, err := p.consumer.Info(ctx)
	if err != nil {
		err = fmt.Errorf("look at consumer %s: %w", bus.FeedConsumer, err)
	} else if info.NumAckPending > 1 {
		held, err = p.hold(ctx, held[0])
		until = time.Now().Add(feedLease - feedPull)
	}
	if err != nil {
		for _, m := range held {
			err = errors.Join(err, p.ledger.Conn().GiveBack(m))
		}
		return err
	}
	msgs := make(chan jetstream.Msg, len(held))
	for _, m := range held {
		msgs <- m
	}
	close(msgs)
	return p.batch(ctx, msgs, until)
}

// hold keeps a message until no other instance can be working on older ones, and returns it with
// those, in order. After an error the returned messages must be given back.
func (p *publisher) hold(ctx context.Context, first jetstream.Msg) ([]jetstream.Msg, error) {
	held := []jetstream.Msg{first}
	for wait := range slices.Values([]time.Duration{bus.FeedWait / 2, bus.FeedWait / 2, 0}) {
		if err := p.ledger.Conn().KeepWorking(first); err != nil {
			return held, fmt.Errorf("hold a message of consumer %s: %w", bus.FeedConsumer, err)
		}
		if !retry.Sleep(ctx, wait) {
			return held, ctx.Err()
		}
	}
	batch, err := p.take(ctx, bus.FeedBatch)
	if err != nil {
		return held, err
	}
	held = append(collect(batch), first)
	slices.SortFunc(held, func(a, b jetstream.Msg) int { return cmp.Compare(sequence(a), sequence(b)) })
	return held, p.ended(batch)
}

// take asks for messages.
func (p *publisher) take(ctx context.Context, most int) (jetstream.MessageBatch, error) {
	if err := p.ledger.Conn().AwaitUp(ctx); err != nil {
		return nil, err
	}
	batch, err := p.consumer.Fetch(most, jetstream.FetchMaxWait(feedPull), jetstream.FetchPriorityGroup(bus.FeedGroup))
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", bus.FeedConsumer, err)
	}
	return batch, nil
}

// ended returns the error that has ended a batch, if any. That it is another instance's turn is
// none.
func (p *publisher) ended(b jetstream.MessageBatch) error {
	err := b.Error()
	switch {
	case errors.Is(err, jetstream.ErrPinIDMismatch):
		p.pin, p.inOrder = "", false
		return nil
	case err != nil:
		p.inOrder = false
		return fmt.Errorf("read consumer %s: %w", bus.FeedConsumer, err)
	}
	return nil
}

// collect returns everything that comes until a batch ends.
func collect(b jetstream.MessageBatch) (all []jetstream.Msg) {
	for m := range b.Messages() {
		all = append(all, m)
	}
	return all
}

// sequence returns a message's sequence in the ledger.
func sequence(m jetstream.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

// find looks for the consumer.
func (p *publisher) find(ctx context.Context) error {
	if p.consumer != nil {
		return nil
	}
	consumer, err := p.ledger.Conn().Consumer(ctx, bus.LedgerStream, bus.FeedConsumer)
	if err == nil {
		p.consumer = consumer
	}
	return err
}

// A feedItem is one message, and what to publish of it once that is known.
type feedItem struct {
	msg      jetstream.Msg
	known    chan struct{} // closed then
	messages []*nats.Msg
	err      error
}

// batch publishes messages in order, until they may be redelivered to another instance. After an
// error it gives the rest back. The next messages are in order unless some could not be given back:
// those are redelivered only after a while.
func (p *publisher) batch(ctx context.Context, msgs <-chan jetstream.Msg, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	items := make(chan *feedItem, bus.FeedBatch)
	go func() {
		defer close(items)
		slots := make(chan struct{}, prepareLimit)
		for m := range msgs {
			item := &feedItem{msg: m, known: make(chan struct{})}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				defer close(item.known)
				item.messages, item.err = p.read(ctx, m)
			}()
			items <- item
		}
	}()
	var failed error
	p.inOrder = true
	for item := range items {
		<-item.known
		if failed == nil {
			failed = p.publish(ctx, item)
		}
		if failed != nil {
			if err := p.ledger.Conn().GiveBack(item.msg); err != nil {
				failed, p.inOrder = errors.Join(failed, err), false
			}
		}
	}
	return failed
}

func (p *publisher) read(ctx context.Context, m jetstream.Msg) ([]*nats.Msg, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", bus.FeedConsumer, err)
	}
	return feedMessages(ctx, p.ledger, bus.Message{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(),
		Seq: meta.Sequence.Stream, StoredAt: meta.Timestamp})
}

// publish publishes one item and acknowledges its message.
func (p *publisher) publish(ctx context.Context, item *feedItem) error {
	if item.err != nil {
		return item.err
	}
	if item.msg.Headers().Get(headerPin) != p.pin {
		p.pin, p.inOrder = "", false
		return errNewTurn
	}
	if err := ctx.Err(); err != nil {
		return err // another instance may have received it by now
	}
	for _, m := range item.messages {
		if err := p.ledger.Conn().Send(m); err != nil {
			return bus.Unavailable("publish to the feed", err)
		}
	}
	if err := item.msg.Ack(); err != nil { // after what was published, on the same connection
		return fmt.Errorf("acknowledge to consumer %s: %w", bus.FeedConsumer, err)
	}
	return nil
}

var errNewTurn = errors.New("this instance's turn has begun again")
