package bus

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A cutOff is a message of a consumer that cannot be reached any more.
type cutOff struct{ jetstream.Msg }

var errCutOff = errors.New("cut off")

func (cutOff) Metadata() (*jetstream.MsgMetadata, error) { return nil, errCutOff }
func (cutOff) Headers() nats.Header                      { return nats.Header{headerPin: {"me"}} }
func (cutOff) Nak() error                                { return errCutOff }
func (cutOff) InProgress() error                         { return errCutOff }

// A lapsing is a consumer that has given messages to somebody else, too, and cannot be reached after it has given one here.
type lapsing struct {
	jetstream.Consumer
	stop  func()
	asked []int // how many messages at a time
}

type lapsed struct {
	jetstream.MessageBatch
	messages chan jetstream.Msg
}

func (b lapsed) Messages() <-chan jetstream.Msg { return b.messages }
func (b lapsed) Error() error                   { return nil }

func (c *lapsing) Fetch(n int, _ ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	if c.asked = append(c.asked, n); len(c.asked) == 3 {
		c.stop()
	}
	messages := make(chan jetstream.Msg, 1)
	messages <- cutOff{}
	close(messages)
	return lapsed{messages: messages}, nil
}

func (c *lapsing) Info(context.Context) (*jetstream.ConsumerInfo, error) {
	return &jetstream.ConsumerInfo{NumAckPending: 2}, nil
}

// connected returns a teller on a connection that is up, or said to be.
func connected() *teller {
	c := &Conn{log: slog.New(slog.DiscardHandler), link: newLink()}
	c.link.set(true)
	return &teller{ledger: &Ledger{conn: c, log: c.log}}
}

// Told to stop, the feed does not wait for what it cannot give back.
func TestFeedStopsWhenItIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, up := range []bool{true, false} {
			began, f := time.Now(), connected()
			f.ledger.conn.link.set(up)
			under := make(chan jetstream.Msg, feedAtOnce)
			for range feedAtOnce {
				under <- cutOff{}
			}
			close(under)
			if err := f.batch(ended(t), under, began.Add(feedLease)); err == nil {
				t.Error("it has told what it could not read")
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("stopping took %v, connected: %v", took, up)
			}
			if f.inOrder {
				t.Error("it goes on with what is newer than what it could not give back")
			}
		}
	})
}

// Where older messages may be somewhere else, and the wait for them has failed, the next try waits for them too.
func TestFeedBeginsAnewWhenItCouldNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		consumer, f := &lapsing{stop: stop}, connected()
		f.consumer = consumer
		for ctx.Err() == nil {
			_ = f.work(ctx, func() { t.Error("it says that it works") })
		}
		if !slices.Equal(consumer.asked, []int{1, 1, 1}) {
			t.Errorf("it has asked for %v messages, want one alone each time", consumer.asked)
		}
	})
}
