package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/fault"
)

// ErrNotWritable says that a stream stores nothing: its last write failed, and none has succeeded
// since.
var ErrNotWritable = fault.New(fault.Unavailable, "not_writable",
	"NATS does not store what is written to it. See its health and its disk; a server whose disk has failed once "+
		"must be restarted.").After(2 * time.Second)

// writes knows the streams whose last write failed in the store: the server was there, and did not
// answer or said that it cannot. After a disk error a NATS server answers nothing more for such a
// stream, and everything else as usual.
type writes struct {
	mu     sync.Mutex
	failed map[string]failedWrite // by stream
}

type failedWrite struct {
	err   error
	probe func(context.Context) error // returns nil when the stream takes writes
}

// Stored notes that a write to a stream was stored.
func (c *Conn) Stored(stream string) {
	c.writes.mu.Lock()
	defer c.writes.mu.Unlock()
	delete(c.writes.failed, stream)
}

// NotStored notes that a write to a stream was not stored, unless the reason is not the store's.
// probe returns nil when the stream takes writes again.
func (c *Conn) NotStored(ctx context.Context, stream string, err error, probe func(context.Context) error) {
	code := APIError(err).Code
	answered := code > 0 && code < 500
	if answered || !c.IsUp() || errors.Is(context.Cause(ctx), context.Canceled) {
		return
	}
	c.log.Warn("NATS has not stored what was written to it", "stream", stream, "error", err)
	c.writes.mu.Lock()
	defer c.writes.mu.Unlock()
	if c.writes.failed == nil {
		c.writes.failed = make(map[string]failedWrite)
	}
	c.writes.failed[stream] = failedWrite{err: err, probe: probe}
}

// Writable returns nil unless the last write to some stream on this connection failed. Then it
// probes that stream, and returns ErrNotWritable until the stream takes writes again.
func (c *Conn) Writable(ctx context.Context) error {
	c.writes.mu.Lock()
	failed := maps.Clone(c.writes.failed)
	c.writes.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience/2)
	defer cancel()
	var all error
	for stream, f := range failed {
		err := f.probe(ctx)
		if err == nil {
			c.Stored(stream)
			continue
		}
		all = errors.Join(all, ErrNotWritable.Because(fmt.Errorf("stream %s: %w", stream, f.err)))
	}
	return all
}

// probe writes a deletion of a key that never exists.
func (b *Bucket) probe(ctx context.Context) error {
	_, err := b.conn.Publish(ctx, &nats.Msg{Subject: b.Subject("probe"),
		Header: nats.Header{HeaderOperation: {operationDelete}}},
		jetstream.WithExpectStream(b.Stream()), jetstream.WithRetryAttempts(0))
	return err
}
