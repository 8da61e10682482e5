package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The feed's order is that of the ledger, and yet many events are read at the same time: the server gives all of them to one instance as long as that
// asks for more (a pinned client), and what was given to one that is gone comes before what is new, because it is given again before another
// instance may take its place: feedPull + feedWait < feedPin.
const (
	feedAhead = 16              // bookings that are read at the same time
	feedPull  = time.Second     // how long messages are waited for at a time
	feedLease = 4 * time.Second // from asking for messages, how long what came may be told

	headerPin = "Nats-Pin-Id"
)

// A teller is one instance that tells watchers, or waits for its turn.
type publisher struct {
	ledger   *ledger.Ledger
	consumer jetstream.Consumer // it knows the pin, too, and says so with each request; nil: it has not been found yet
	pin      string             // as which the server knows this instance; another one is another turn
	inOrder  bool               // whether all that is older than what comes next has been told, or comes before it
}

// run tells until ctx ends.
func (t *publisher) run(ctx context.Context) {
	defer t.leave(ctx)
	pace := bus.NewBackOff()
	told := time.Now()
	for ctx.Err() == nil {
		err := t.work(ctx, func() {
			pace.Reset()
			told = time.Now()
		})
		if ctx.Err() != nil {
			return
		}
		level := t.ledger.Conn().Log().Debug
		if time.Since(told) > bus.FeedWait {
			level, told = t.ledger.Conn().Log().Warn, time.Now()
			t.leave(ctx) // another instance may be able to
		}
		retry := pace.NextBackOff()
		level("the feed has to wait", "error", err, "retry_in", retry)
		bus.Pause(ctx, retry)
	}
}

// leave gives this instance's turn to another, which would else have to wait for feedPin, or for ever. What was under way here has been given back, or is held as at
// the beginning of any turn.
func (t *publisher) leave(ctx context.Context) {
	if t.pin == "" || !t.ledger.Conn().IsUp() {
		return
	}
	ctx, cancel := bus.Farewell(ctx)
	defer cancel()
	stream, err := t.ledger.Conn().Stream(ctx, bus.LedgerStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, bus.FeedConsumer, bus.FeedGroup)
	}
	if err != nil {
		t.ledger.Conn().Log().Debug("the feed has to wait until the place of this instance is free", "error", err, "at_most", bus.FeedPin)
	}
	t.pin, t.inOrder = "", false
}

// work takes messages and tells of them until something breaks. It calls working whenever nothing has.
func (t *publisher) work(ctx context.Context, working func()) error {
	if err := t.find(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		next := t.begin
		if t.inOrder {
			next = t.next
		}
		held := t.ledger.Conn().SameConnection()
		t.inOrder = false // until it is known what became of all that is taken
		err := next(ctx)
		t.inOrder = t.inOrder && held() // what was on its way when the connection was lost is given again later
		if err != nil {
			return err
		}
		working()
	}
	return ctx.Err()
}

// next tells of what the server gives in the course of this instance's turn.
func (t *publisher) next(ctx context.Context) error {
	until := time.Now().Add(feedLease)
	batch, err := t.take(ctx, bus.FeedBatch)
	if err != nil {
		return err
	}
	if err := t.batch(ctx, batch.Messages(), until); err != nil {
		return err
	}
	return t.ended(batch)
}

// begin waits for this instance's turn, and begins where whoever told before has ended. A new leader of the consumer does not know whose turn it is, and
// gives what is new to somebody while others are still at what is older. So the first message comes alone, and where it is not the only one under way
// it is held until the others are done or are given again.
func (t *publisher) begin(ctx context.Context) error {
	until := time.Now().Add(feedLease)
	batch, err := t.take(ctx, 1)
	if err != nil {
		return err
	}
	held := collect(batch)
	if len(held) == 0 {
		return t.ended(batch)
	}
	t.pin = held[0].Headers().Get(headerPin)
	info, err := t.consumer.Info(ctx)
	if err != nil {
		err = fmt.Errorf("look at consumer %s: %w", bus.FeedConsumer, err)
	} else if info.NumAckPending > 1 {
		held, err = t.hold(ctx, held[0])
		until = time.Now().Add(feedLease - feedPull)
	}
	if err != nil {
		for _, m := range held {
			err = errors.Join(err, t.ledger.Conn().GiveBack(m))
		}
		return err
	}
	msgs := make(chan jetstream.Msg, len(held))
	for _, m := range held {
		msgs <- m
	}
	close(msgs)
	return t.batch(ctx, msgs, until)
}

// hold keeps a message until no other instance can be at older ones, and returns it with those, in their order. After an error,
// what it returns is to be given back.
func (t *publisher) hold(ctx context.Context, first jetstream.Msg) ([]jetstream.Msg, error) {
	held := []jetstream.Msg{first}
	for wait := range slices.Values([]time.Duration{bus.FeedWait / 2, bus.FeedWait / 2, 0}) {
		if err := t.ledger.Conn().KeepWorking(first); err != nil {
			return held, fmt.Errorf("hold a message of consumer %s: %w", bus.FeedConsumer, err)
		}
		bus.Pause(ctx, wait)
		if ctx.Err() != nil {
			return held, ctx.Err()
		}
	}
	batch, err := t.take(ctx, bus.FeedBatch)
	if err != nil {
		return held, err
	}
	held = append(collect(batch), first)
	slices.SortFunc(held, func(a, b jetstream.Msg) int { return cmp.Compare(sequence(a), sequence(b)) })
	return held, t.ended(batch)
}

// take asks for messages.
func (t *publisher) take(ctx context.Context, most int) (jetstream.MessageBatch, error) {
	if err := t.ledger.Conn().AwaitUp(ctx); err != nil {
		return nil, err
	}
	batch, err := t.consumer.Fetch(most, jetstream.FetchMaxWait(feedPull), jetstream.FetchPriorityGroup(bus.FeedGroup))
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", bus.FeedConsumer, err)
	}
	return batch, nil
}

// ended returns what has ended a batch that is read. That it is somebody else's turn is no error.
func (t *publisher) ended(b jetstream.MessageBatch) error {
	err := b.Error()
	switch {
	case errors.Is(err, jetstream.ErrPinIDMismatch):
		t.pin, t.inOrder = "", false
		return nil
	case err != nil:
		t.inOrder = false
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

// sequence returns that of a message in the ledger.
func sequence(m jetstream.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

// find looks for the consumer. Provision has made it: who may change a consumer may send its messages anywhere.
func (t *publisher) find(ctx context.Context) error {
	if t.consumer != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	if err := t.ledger.Conn().AwaitUp(ctx); err != nil {
		return err
	}
	consumer, err := t.ledger.Conn().JetStream().Consumer(ctx, bus.LedgerStream, bus.FeedConsumer)
	if err != nil {
		return fmt.Errorf("look for consumer %s: %w", bus.FeedConsumer, err)
	}
	t.consumer = consumer
	return nil
}

// A piece is one message, and what there is to tell of it once that is known.
type feedItem struct {
	msg      jetstream.Msg
	known    chan struct{} // closed when it is
	messages []*nats.Msg
	err      error
}

// batch tells of messages in their order, until a time when they may be given to somebody else. After an error, what is not told is
// given back. What comes next is in order unless some of that could not be: it is given again only after a while.
func (t *publisher) batch(ctx context.Context, msgs <-chan jetstream.Msg, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	pieces := make(chan *feedItem, bus.FeedBatch)
	go func() {
		defer close(pieces)
		slots := make(chan struct{}, feedAhead)
		for m := range msgs {
			p := &feedItem{msg: m, known: make(chan struct{})}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				defer close(p.known)
				p.messages, p.err = t.read(ctx, m)
			}()
			pieces <- p
		}
	}()
	var failed error
	t.inOrder = true
	for p := range pieces {
		<-p.known
		if failed == nil {
			failed = t.tell(ctx, p)
		}
		if failed != nil {
			if err := t.ledger.Conn().GiveBack(p.msg); err != nil {
				failed, t.inOrder = errors.Join(failed, err), false
			}
		}
	}
	return failed
}

func (t *publisher) read(ctx context.Context, m jetstream.Msg) ([]*nats.Msg, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", bus.FeedConsumer, err)
	}
	return feedMessages(ctx, t.ledger, bus.Message{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Seq: meta.Sequence.Stream, StoredAt: meta.Timestamp})
}

// tell tells of one message and acknowledges it.
func (t *publisher) tell(ctx context.Context, p *feedItem) error {
	if p.err != nil {
		return p.err
	}
	if p.msg.Headers().Get(headerPin) != t.pin {
		t.pin, t.inOrder = "", false
		return errTurn
	}
	if err := ctx.Err(); err != nil {
		return err // somebody else may be told to tell of it by now
	}
	for _, m := range p.messages {
		if err := t.ledger.Conn().Send(m); err != nil {
			return bus.Unavailable("tell of an event", err)
		}
	}
	if err := p.msg.Ack(); err != nil { // behind what was published, by the same connection
		return fmt.Errorf("acknowledge to consumer %s: %w", bus.FeedConsumer, err)
	}
	return nil
}

var errTurn = errors.New("it is this instance's turn anew")
