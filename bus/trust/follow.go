package trust

import (
	"context"
	"fmt"
	"time"

	"github.com/example/pillion/bus"
)

// Follow reads a bucket until ctx ends, and begins again whenever that breaks. At each beginning it
// calls open, with the bucket's creation and its last sequence. open returns the sequence to read
// from and what takes the messages. An error of take ends the session. what names the watch in the
// log.
func Follow(
	ctx context.Context, c *bus.Conn, what string, bucket *bus.Bucket,
	open func(created time.Time, last uint64) (from uint64, take func(bus.Message) error),
) {
	p := bus.Retries(0)
	p.Notify = func(err error, wait time.Duration) {
		c.Log().Debug(what+" watch interrupted", "error", err, "retry_in", wait)
	}
	_ = p.Keep(ctx, func(progress func()) error {
		stream, err := c.Stream(ctx, bucket.Stream())
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		from, take := open(info.Created, info.State.LastSeq)
		reader, err := c.Read(ctx, stream, from)
		if err != nil {
			return fmt.Errorf("read the bucket: %w", err)
		}
		defer reader.Close()
		for {
			m, _, err := reader.Next()
			if err != nil {
				return fmt.Errorf("read the bucket: %w", err)
			}
			if err := take(m); err != nil {
				return err
			}
			progress()
		}
	})
}
