package bus

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// NewBackOff returns the delays between tries: from 5 ms, doubling, up to 500 ms.
func NewBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2,
		MaxInterval: 500 * time.Millisecond,
	}
}

// Retry calls try until it succeeds, returns a backoff.Permanent error, or the time is over. It
// returns the last error.
func Retry[T any](ctx context.Context, atMost time.Duration, try func() (T, error)) (T, error) {
	return backoff.Retry(ctx, try, backoff.WithBackOff(NewBackOff()), backoff.WithMaxElapsedTime(atMost))
}

// Insistently calls try until it returns nil or ctx ends. After each failure it calls failed, which
// may be nil, with the delay before the next try. A try that calls progress has got somewhere: the
// delays begin anew. Insistently returns ctx's error, or nil.
func Insistently(
	ctx context.Context, try func(progress func()) error, failed func(err error, wait time.Duration),
) error {
	pace := NewBackOff()
	for ctx.Err() == nil {
		err := try(pace.Reset)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		wait := pace.NextBackOff()
		if failed != nil {
			failed(err, wait)
		}
		Pause(ctx, wait)
	}
	return ctx.Err()
}

// Pause waits for d, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
