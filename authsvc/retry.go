package authsvc

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

const (
	// patience is how long a write is tried while NATS has no leader: after a leader's sudden death writes stop for 5 to 8 s.
	patience   = 10 * time.Second
	firstPause = 20 * time.Millisecond // before the second try; the next ones wait longer
)

// insist tries op until it succeeds or fails with something other than fault.Unavailable, for 10 s or as long as ctx lasts. op must
// bear repetition. When ctx ends it returns bus.ErrUnavailable: the outcome may be unknown.
func insist(ctx context.Context, op func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = firstPause
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := op()
		if err != nil && fault.KindOf(err) != fault.Unavailable {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(patience))
	if err != nil && ctx.Err() != nil && fault.KindOf(err) == fault.Internal {
		return bus.ErrUnavailable.Because(err)
	}
	return err
}
