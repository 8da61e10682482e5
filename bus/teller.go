package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The feed's order is that of the ledger, and yet many events are read at the same time: the server gives all of them to one instance as long as that
// asks for more (a pinned client), and what was given to one that is gone comes before what is new, because it is given again before another
// instance may take its place: feedPull + feedWait < feedPin.
const (
	feedGroup  = "feed"
	feedAtOnce = 64              // messages under way
	feedAhead  = 16              // bookings that are read at the same time
	feedPull   = time.Second     // how long messages are waited for at a time
	feedLease  = 4 * time.Second // from asking for messages, how long what came may be told
	feedWait   = 5 * time.Second // until a message of which nothing is heard is given again
	feedPin    = 7 * time.Second // until another instance takes the place of one that asks for nothing

	headerPin = "Nats-Pin-Id"
)

// A teller is one instance that tells watchers, or waits for its turn.
type teller struct {
	ledger   *Ledger
	consumer jetstream.Consumer // it knows the pin, too, and says so with each request; nil: it has not been found yet
	pin      string             // as which the server knows this instance; another one is another turn
	inOrder  bool               // whether all that is older than what comes next has been told, or comes before it
}

// run tells until ctx ends.
func (t *teller) run(ctx context.Context) {
	defer t.leave(ctx)
	pace := newBackOff()
	told := time.Now()
	for ctx.Err() == nil {
		err := t.work(ctx, func() {
			pace.Reset()
			told = time.Now()
		})
		if ctx.Err() != nil {
			return
		}
		level := t.ledger.log.Debug
		if time.Since(told) > feedWait {
			level, told = t.ledger.log.Warn, time.Now()
			t.leave(ctx) // another instance may be able to
		}
		retry := pace.NextBackOff()
		level("the feed has to wait", "error", err, "retry_in", retry)
		pause(ctx, retry)
	}
}

// leave gives this instance's turn to another, which would else have to wait for feedPin, or for ever. What was under way here has been given back, or is held as at
// the beginning of any turn.
func (t *teller) leave(ctx context.Context) {
	if t.pin == "" || !t.ledger.conn.link.is() {
		return
	}
	ctx, cancel := farewell(ctx)
	defer cancel()
	stream, err := t.ledger.conn.stream(ctx, LedgerStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, FeedConsumer, feedGroup)
	}
	if err != nil {
		t.ledger.log.Debug("the feed has to wait until the place of this instance is free", "error", err, "at_most", feedPin)
	}
	t.pin, t.inOrder = "", false
}

// work takes messages and tells of them until something breaks. It calls working whenever nothing has.
func (t *teller) work(ctx context.Context, working func()) error {
	if err := t.find(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		next := t.begin
		if t.inOrder {
			next = t.next
		}
		held := t.ledger.conn.Held()
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
func (t *teller) next(ctx context.Context) error {
	until := time.Now().Add(feedLease)
	batch, err := t.take(ctx, feedAtOnce)
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
func (t *teller) begin(ctx context.Context) error {
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
		err = fmt.Errorf("look at consumer %s: %w", FeedConsumer, err)
	} else if info.NumAckPending > 1 {
		held, err = t.hold(ctx, held[0])
		until = time.Now().Add(feedLease - feedPull)
	}
	if err != nil {
		for _, m := range held {
			err = errors.Join(err, t.ledger.conn.giveBack(m))
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
func (t *teller) hold(ctx context.Context, first jetstream.Msg) ([]jetstream.Msg, error) {
	held := []jetstream.Msg{first}
	for wait := range slices.Values([]time.Duration{feedWait / 2, feedWait / 2, 0}) {
		if err := t.ledger.conn.keep(first); err != nil {
			return held, fmt.Errorf("hold a message of consumer %s: %w", FeedConsumer, err)
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return held, ctx.Err()
		}
	}
	batch, err := t.take(ctx, feedAtOnce)
	if err != nil {
		return held, err
	}
	held = append(collect(batch), first)
	slices.SortFunc(held, func(a, b jetstream.Msg) int { return cmp.Compare(sequence(a), sequence(b)) })
	return held, t.ended(batch)
}

// take asks for messages.
func (t *teller) take(ctx context.Context, most int) (jetstream.MessageBatch, error) {
	if err := t.ledger.conn.link.wait(ctx); err != nil {
		return nil, err
	}
	batch, err := t.consumer.Fetch(most, jetstream.FetchMaxWait(feedPull), jetstream.FetchPriorityGroup(feedGroup))
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", FeedConsumer, err)
	}
	return batch, nil
}

// ended returns what has ended a batch that is read. That it is somebody else's turn is no error.
func (t *teller) ended(b jetstream.MessageBatch) error {
	err := b.Error()
	switch {
	case errors.Is(err, jetstream.ErrPinIDMismatch):
		t.pin, t.inOrder = "", false
		return nil
	case err != nil:
		t.inOrder = false
		return fmt.Errorf("read consumer %s: %w", FeedConsumer, err)
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
func (t *teller) find(ctx context.Context) error {
	if t.consumer != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	if err := t.ledger.conn.link.wait(ctx); err != nil {
		return err
	}
	consumer, err := t.ledger.js.Consumer(ctx, LedgerStream, FeedConsumer)
	if err != nil {
		return fmt.Errorf("look for consumer %s: %w", FeedConsumer, err)
	}
	t.consumer = consumer
	return nil
}

// A piece is one message, and what there is to tell of it once that is known.
type piece struct {
	msg   jetstream.Msg
	known chan struct{} // closed when it is
	news  []*nats.Msg
	err   error
}

// batch tells of messages in their order, until a time when they may be given to somebody else. After an error, what is not told is
// given back. What comes next is in order unless some of that could not be: it is given again only after a while.
func (t *teller) batch(ctx context.Context, msgs <-chan jetstream.Msg, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	pieces := make(chan *piece, feedAtOnce)
	go func() {
		defer close(pieces)
		slots := make(chan struct{}, feedAhead)
		for m := range msgs {
			p := &piece{msg: m, known: make(chan struct{})}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				defer close(p.known)
				p.news, p.err = t.read(ctx, m)
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
			if err := t.ledger.conn.giveBack(p.msg); err != nil {
				failed, t.inOrder = errors.Join(failed, err), false
			}
		}
	}
	return failed
}

func (t *teller) read(ctx context.Context, m jetstream.Msg) ([]*nats.Msg, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read consumer %s: %w", FeedConsumer, err)
	}
	return t.ledger.news(ctx, stored{subject: m.Subject(), header: m.Headers(), data: m.Data(), seq: meta.Sequence.Stream, at: meta.Timestamp})
}

// tell tells of one message and acknowledges it.
func (t *teller) tell(ctx context.Context, p *piece) error {
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
	for _, m := range p.news {
		if err := t.ledger.conn.tell(m); err != nil {
			return unavailable("tell of an event", err)
		}
	}
	if err := p.msg.Ack(); err != nil { // behind what was published, by the same connection
		return fmt.Errorf("acknowledge to consumer %s: %w", FeedConsumer, err)
	}
	return nil
}

var errTurn = errors.New("it is this instance's turn anew")
