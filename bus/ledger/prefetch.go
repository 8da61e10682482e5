package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// Reading ahead: messages are verified by several goroutines while those before them are being applied. What they are verified by does not
// depend on their order; what they do to a board does, and there is one goroutine for that.
const (
	prefetchBatch = 64 // messages that are handed on at once; fewer where no more are waiting
	prefetchLimit = 16 // batches that may be verified before they are applied
)

// A verdict is what came of checking a message, by some version of the past.
type verdict struct {
	m       bus.Message
	version uint64
	event   booking.Event
	err     error // a refusal; or why there is no verdict yet
}

// undecided reports whether there is no verdict, for want of what tokens are judged by.
func (v *verdict) undecided() bool {
	return errors.Is(v.err, token.ErrNoKeys) || errors.Is(v.err, token.ErrUndecided)
}

// A batch is some messages on their way.
type batch struct {
	messages []verdict
	pending  uint64        // how many are behind the last of them
	checked  chan struct{} // closed when there is a verdict on each
}

// ahead calls take with batch after batch, each verified and in the order of the ledger, until that or the reader fails. It closes
// the reader, and returns when everything it began has ended.
func (f *Follower) prefetch(ctx context.Context, messages *bus.Reader, take func(*batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer messages.Close()
	defer cancel()

	inOrder, unchecked := make(chan *batch, prefetchLimit), make(chan *batch, prefetchLimit)
	var readErr error // once inOrder is closed
	work.Go(func() {
		defer close(inOrder)
		defer close(unchecked)
		for readErr == nil {
			var b *batch
			if b, readErr = nextBatch(messages); len(b.messages) == 0 {
				return
			}
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

// nextBatch waits for a message, and returns it with those that follow it closely. Where an error ends the reader, it comes with what was
// read before.
func nextBatch(messages *bus.Reader) (*batch, error) {
	b := &batch{checked: make(chan struct{})}
	for {
		m, pending, err := messages.Next()
		if err != nil {
			return b, fmt.Errorf("read ledger: %w", err)
		}
		b.messages, b.pending = append(b.messages, verdict{m: m}), pending
		if pending == 0 || len(b.messages) == prefetchBatch || !messages.Waiting() {
			return b, nil
		}
	}
}

// check verifies what is in a batch. Where that cannot be done yet, whoever takes it waits in place.
func (f *Follower) check(ctx context.Context, b *batch) {
	defer close(b.checked)
	for i := range b.messages {
		v := &b.messages[i]
		v.version = f.ledger.epoch.Version()
		v.event, v.err = f.ledger.verify.check(ctx, v.m)
	}
}
