package feed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/token/tokentest"
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

// A lapsing is a consumer that has given messages to somebody else, too, and cannot be reached
// after it has given one here.
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

// newPublisher returns a publisher on a connection that is up, or not.
func newPublisher(t *testing.T, up bool) *publisher {
	t.Helper()
	r := bustest.Away(t)
	if up {
		r.Start(t)
	}
	c, err := bus.Connect(bus.Config{InProcess: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.NATS().Close)
	l, err := ledger.Open(c, ledger.Options{Source: "/test", Tokens: tokentest.New(t).Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	return &publisher{ledger: l}
}

// ended returns a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Told to stop, the feed does not wait for what it cannot give back.
func TestFeedStopsWhenItIsCutOff(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		for _, up := range []bool{true, false} {
			f := newPublisher(t, up)
			began := time.Now()
			under := make(chan jetstream.Msg, bus.FeedBatch)
			for range bus.FeedBatch {
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

// Where older messages may be somewhere else, and the wait for them has failed, the next try waits
// for them too.
func TestFeedBeginsAnewWhenItCouldNotWait(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		consumer, f := &lapsing{stop: stop}, newPublisher(t, true)
		f.consumer = consumer
		for ctx.Err() == nil {
			_ = f.work(ctx, func() { t.Error("it says that it works") })
		}
		if !slices.Equal(consumer.asked, []int{1, 1, 1}) {
			t.Errorf("it has asked for %v messages, want one alone each time", consumer.asked)
		}
	})
}
