package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Reader reads a stream's messages in order and without a gap, from one sequence on. When it
// cannot go on, it ends, and a new Reader begins where it stopped. Close it.
//
// The consumers of nats.go recognise their own control messages by a header and an empty body. Any
// publisher can store a message that looks like that, and such a consumer then never gets past it.
// A Reader takes for a message what has an acknowledgement subject, which only the server can set.
type Reader struct {
	sub   *nats.Subscription
	stop  func() bool
	reply *nats.Conn
	got   uint64 // consumer sequence of the last message
}

const (
	readerHeartbeat = time.Second
	readerSilence   = 4 * readerHeartbeat // without a heartbeat: the consumer is gone
	readerIdle      = 10 * time.Second    // then the server drops an abandoned consumer

	ackPrefix     = "$JS.ACK."
	headerStalled = "Nats-Consumer-Stalled"
)

// Read returns a Reader that begins at sequence from, and returns the messages that any of the
// filters matches, or all without filters. It ends with ctx. The caller closes it.
func (c *Conn) Read(ctx context.Context, stream jetstream.Stream, from uint64, filters ...string) (*Reader, error) {
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	// Flow control bounds the queue; the client's own limit would drop messages instead.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, errors.Join(err, sub.Unsubscribe())
	}
	create, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	if _, err := stream.CreatePushConsumer(create, jetstream.ConsumerConfig{
		DeliverSubject:    inbox,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		FilterSubjects:    filters,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		FlowControl:       true,
		IdleHeartbeat:     readerHeartbeat,
		InactiveThreshold: readerIdle,
		MemoryStorage:     true,
		Replicas:          1,
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("create consumer: %w", err), sub.Unsubscribe())
	}
	r := &Reader{sub: sub, reply: c.nc}
	r.stop = context.AfterFunc(ctx, r.unsubscribe)
	return r, nil
}

// Next returns the next message, and how many follow it. Any error ends the Reader.
func (r *Reader) Next() (m Message, pending uint64, err error) {
	for {
		msg, err := r.sub.NextMsg(readerSilence)
		if err != nil {
			return Message{}, 0, err
		}
		if !strings.HasPrefix(msg.Reply, ackPrefix) {
			if err := r.control(msg); err != nil {
				return Message{}, 0, err
			}
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return Message{}, 0, err
		}
		if meta.Sequence.Consumer != r.got+1 {
			return Message{}, 0, fmt.Errorf("message %d of the consumer came after %d", meta.Sequence.Consumer, r.got)
		}
		r.got++
		return Message{Subject: msg.Subject, Header: msg.Header, Data: msg.Data, Seq: meta.Sequence.Stream,
			StoredAt: meta.Timestamp}, meta.NumPending, nil
	}
}

// Waiting reports whether Next can return something at once.
func (r *Reader) Waiting() bool {
	n, _, err := r.sub.Pending()
	return err == nil && n > 0
}

// control answers flow control: all earlier messages have been read. Heartbeats need no answer,
// except where one says that an earlier answer was lost.
func (r *Reader) control(msg *nats.Msg) error {
	to := msg.Reply
	to = cmp.Or(to, msg.Header.Get(headerStalled))
	if to == "" {
		return nil
	}
	return r.reply.Publish(to, nil)
}

// Close ends the Reader.
func (r *Reader) Close() {
	if r.stop() {
		r.unsubscribe()
	}
}

func (r *Reader) unsubscribe() {
	_ = r.sub.Unsubscribe() // fails without a connection, and then there is no subscription
}
