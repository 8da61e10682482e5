package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/fault"
)

// ErrNotWritable says that a stream takes no writes: the last one was not stored, and none has been
// since.
var ErrNotWritable = fault.New(fault.Unavailable, "not_writable",
	"NATS does not store what is written to it. See its health and its disk; a server whose disk has failed once must be restarted.").After(2 * time.Second)

// writes are the streams whose last write was not stored for reasons of the store: its server was
// there and did not answer, or said that it cannot. A server whose disk has failed once answers
// nothing more for such a stream, and all else as ever.
type writes struct {
	mu     sync.Mutex
	failed map[string]failedWrite // by stream
}

type failedWrite struct {
	err   error
	probe func(context.Context) error // returns nil when the stream takes writes
}

// stored notes that a stream has stored something.
func (w *writes) stored(stream string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failed, stream)
}

// Stored notes that a stream has stored something.
func (c *Conn) Stored(stream string) { c.writes.stored(stream) }

// fail notes that a stream has not.
func (w *writes) fail(stream string, f failedWrite) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = make(map[string]failedWrite)
	}
	w.failed[stream] = f
}

// notStored notes that a write to a stream was not stored, unless that is known to be for another
// reason than the store's.
func (c *Conn) NotStored(ctx context.Context, stream string, err error, probe func(context.Context) error) {
	var api jetstream.JetStreamError
	answered := errors.As(err, &api) && api.APIError() != nil && api.APIError().Code < 500
	if answered || !c.state.isUp() || errors.Is(context.Cause(ctx), context.Canceled) {
		return
	}
	c.log.Warn("NATS has not stored what was written to it", "stream", stream, "error", err)
	c.writes.fail(stream, failedWrite{err: err, probe: probe})
}

// Writable returns nil unless a stream has not stored what was last written to it on this
// connection. Then it asks that stream, and returns ErrNotWritable as long as that does not answer
// as one that takes writes.
func (c *Conn) Writable(ctx context.Context) error {
	c.writes.mu.Lock()
	failed := make(map[string]failedWrite, len(c.writes.failed))
	for stream, f := range c.writes.failed {
		failed[stream] = f
	}
	c.writes.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience/2)
	defer cancel()
	var all error
	for stream, f := range failed {
		err := f.probe(ctx)
		if err == nil {
			c.writes.stored(stream)
			continue
		}
		all = errors.Join(all, ErrNotWritable.Because(fmt.Errorf("stream %s: %w", stream, f.err)))
	}
	return all
}

// probe writes to the bucket that a key is deleted which nobody ever makes.
func (b *Bucket) probe(ctx context.Context) error {
	_, err := b.conn.Publish(ctx, &nats.Msg{Subject: b.Subject("probe"), Header: nats.Header{HeaderOperation: {operationDelete}}},
		jetstream.WithExpectStream(b.Stream()), jetstream.WithRetryAttempts(0))
	return err
}
