package ledger

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// Prefetching: several goroutines verify messages while earlier ones are being applied.
// Verification does not depend on the order of messages; application does, and has one goroutine.
const (
	prefetchBatch = 64 // messages handed on together; fewer where no more are waiting
	prefetchLimit = 16 // batches that may wait to be applied
)

// A verdict is the result of verifying a message in some epoch.
type verdict struct {
	m, before bus.Message // before is the one that was read before m; zero: none was
	epoch     uint64
	began     time.Time // when the verification began; zero without tracing
	event     booking.Event
	err       error // a refusal, or why there is no verdict yet
}

// A batch is a few messages on their way.
type batch struct {
	messages []verdict
	pending  uint64        // how many messages follow
	checked  chan struct{} // closed when each message has a verdict
}

// prefetch calls take with one verified batch after the other, in the ledger's order, until take or
// the reader fails. It closes the reader, and returns when all of its goroutines have ended.
func (f *Follower) prefetch(ctx context.Context, messages *bus.Reader, take func(*batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer messages.Close()
	defer cancel()

	inOrder, unchecked := make(chan *batch, prefetchLimit), make(chan *batch, prefetchLimit)
	var readErr error // valid once inOrder is closed
	work.Go(func() {
		defer close(inOrder)
		defer close(unchecked)
		var before bus.Message
		for readErr == nil {
			var b *batch
			if b, readErr = nextBatch(messages, before); len(b.messages) == 0 {
				return
			}
			before = b.messages[len(b.messages)-1].m
			select {
			case inOrder <- b:
			case <-ctx.Done():
				return
			}
			unchecked <- b // has as much room
		}
	})
	for range min(runtime.GOMAXPROCS(0), prefetchLimit) {
		work.Go(func() {
			for b := range unchecked {
				f.check(ctx, b)
			}
		})
	}
	for b := range inOrder {
		<-b.checked
		if err := take(b); err != nil {
			return err
		}
	}
	return readErr
}

// nextBatch waits for a message, and returns it with those that follow closely. An error that ends
// the reader comes with what was read before.
func nextBatch(messages *bus.Reader, before bus.Message) (*batch, error) {
	b := &batch{checked: make(chan struct{})}
	for {
		m, pending, err := messages.Next()
		if err != nil {
			return b, fmt.Errorf("read ledger: %w", err)
		}
		b.messages, b.pending = append(b.messages, verdict{m: m, before: before}), pending
		before = m
		if pending == 0 || len(b.messages) == prefetchBatch || !messages.Waiting() {
			return b, nil
		}
	}
}

// check verifies the messages of a batch. It does not wait for missing keys or revocations: the
// goroutine that applies the batch does.
func (f *Follower) check(ctx context.Context, b *batch) {
	defer close(b.checked)
	for i := range b.messages {
		v := &b.messages[i]
		v.epoch, v.began = f.ledger.epoch.Version(), f.ledger.conn.Tracer().Now()
		v.event, v.err = f.ledger.verify.check(ctx, v.m, v.before)
	}
}
