package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A reader gets a stream's messages in their order and without a gap, from one sequence on. When it cannot, it ends, and another one
// begins where it stopped.
//
// The consumers of nats.go tell messages from their own control messages by a header and an empty body. Whoever may publish can
// store a message that looks like that, and such a consumer then never gets past it. Here a message is what has an
// acknowledgement subject, which is the server's to give.
type Reader struct {
	sub   *nats.Subscription
	stop  func() bool
	reply *nats.Conn
	got   uint64 // consumer sequence of the last message
}

const (
	readerHeartbeat = time.Second
	readerSilence   = 4 * readerHeartbeat // without even a heartbeat: the consumer is gone
	readerIdle      = 10 * time.Second    // the server drops the consumer that long after its reader has gone

	ackPrefix     = "$JS.ACK."
	headerStalled = "Nats-Consumer-Stalled"
)

// read begins at sequence from, and passes over what none of the filters lets pass. Close the reader; it ends by itself with ctx.
func (c *Conn) Read(ctx context.Context, stream jetstream.Stream, from uint64, filters ...string) (*Reader, error) {
	if err := c.state.wait(ctx); err != nil {
		return nil, err
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	// Flow control bounds what waits here; a limit of the client's would drop messages instead.
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

// readTo reads what a filter lets pass, from one sequence on until another one, which is there and passes.
func (c *Conn) ReadTo(ctx context.Context, name, filter string, from, to uint64) ([]Message, error) {
	stream, err := c.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := c.Read(ctx, stream, from, filter)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for msgs := []Message(nil); ; {
		m, _, err := r.Next()
		if err != nil {
			return nil, err
		}
		if msgs = append(msgs, m); m.Seq >= to {
			return msgs, nil
		}
	}
}

// next returns the next message, and how many are behind it. Any error ends the reader.
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
		return Message{Subject: msg.Subject, Header: msg.Header, Data: msg.Data, Seq: meta.Sequence.Stream, StoredAt: meta.Timestamp}, meta.NumPending, nil
	}
}

// waiting reports whether something has come that next has not returned yet.
func (r *Reader) Waiting() bool {
	n, _, err := r.sub.Pending()
	return err == nil && n > 0
}

// control answers flow control: everything that came before has been read. Heartbeats need no answer, unless one says that the
// server waits for one that was lost.
func (r *Reader) control(msg *nats.Msg) error {
	to := msg.Reply
	if to == "" {
		to = msg.Header.Get(headerStalled)
	}
	if to == "" {
		return nil
	}
	return r.reply.Publish(to, nil)
}

func (r *Reader) Close() {
	if r.stop() {
		r.unsubscribe()
	}
}

func (r *Reader) unsubscribe() {
	_ = r.sub.Unsubscribe() // it fails when the connection is gone, and with it the subscription
}
