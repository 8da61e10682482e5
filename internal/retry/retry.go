// Package retry repeats calls that may succeed later, with growing pauses in between.
//
// Fill in a [Policy] and call [Policy.Do], or [Get] for a call that returns a value. [Policy.Keep]
// is for a long session that starts again whenever it breaks. All of them are safe in a bubble of
// testing/synctest, and none of them keeps any state between calls.
package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/example/pillion/internal/fault"
)

// A Policy says when a failed call is repeated, and when it is given up. First and Longest are
// required. A Policy may be used by several goroutines at once.
type Policy struct {
	First   time.Duration // the pause before the second try
	Longest time.Duration // each pause is twice the one before, up to this one; all vary by half
	// Within limits all tries and pauses together: a pause that would end later is not begun. Zero:
	// as long as the context lasts.
	Within time.Duration
	Tries  uint                                 // limits the number of tries; zero: no limit
	When   func(error) bool                     // reports whether an error may pass; nil: each may
	Notify func(err error, pause time.Duration) // is called before each pause; nil: nobody is told
}

// Unavailable reports whether an error is of kind fault.Unavailable. It is for [Policy.When].
func Unavailable(err error) bool { return fault.KindOf(err) == fault.Unavailable }

// Permanent wraps an error for which a call must not be repeated, whatever the policy says.
// [Policy.Do] and the others return it without the wrapping.
func Permanent(err error) error { return backoff.Permanent(err) }

// After returns an error that makes the next pause d, and the ones after it short again.
func After(d time.Duration) error { return &backoff.RetryAfterError{Duration: d} }

// Do calls op until it succeeds or the policy gives up, and at least once. It returns the last
// error of op. If ctx ends first, the error wraps the cause of that and the last error from before.
func (p Policy) Do(ctx context.Context, op func() error) error {
	_, err := Get(ctx, p, func() (struct{}, error) { return struct{}{}, op() })
	return err
}

// Get is [Policy.Do] for a call that returns a value. It returns the value of the last try,
// whatever that came to.
func Get[T any](ctx context.Context, p Policy, op func() (T, error)) (T, error) {
	// Most calls succeed at once, and need no more than this.
	v, err := op()
	if err == nil {
		return v, nil
	}
	tried := false
	return get(ctx, p, p.Pauses(), func() (T, error) {
		if tried {
			return op()
		}
		tried = true
		return v, err
	})
}

// Keep is [Policy.Do] for a long session that starts again whenever it breaks. The session calls
// progress whenever it gets somewhere, which makes the next pause short again.
func (p Policy) Keep(ctx context.Context, session func(progress func()) error) error {
	pauses := p.Pauses()
	_, err := get(ctx, p, pauses, func() (struct{}, error) { return struct{}{}, session(pauses.Reset) })
	return err
}

// Pauses returns the sequence of pauses, for a loop that also waits for something else.
func (p Policy) Pauses() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: p.First, MaxInterval: p.Longest, Multiplier: 2, RandomizationFactor: 0.5,
	}
}

func get[T any](ctx context.Context, p Policy, pauses backoff.BackOff, op func() (T, error)) (T, error) {
	var (
		last    error
		refused bool
	)
	v, err := backoff.Retry(ctx, func() (T, error) {
		v, err := op()
		var permanent *backoff.PermanentError
		final := errors.As(err, &permanent) || err != nil && p.When != nil && !p.When(err)
		if permanent != nil {
			err = permanent.Err
		}
		// A failure because ctx has ended hides why the tries before it failed.
		if last == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			last, refused = err, final
		}
		if final {
			err = backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(p.Within), backoff.WithMaxTries(p.Tries),
		backoff.WithNotify(p.Notify))
	if err == nil {
		return v, nil
	}
	if cause := context.Cause(ctx); cause != nil && !refused && !errors.Is(last, cause) {
		last = fmt.Errorf("%w: %w", cause, last)
	}
	return v, last
}

// Sleep waits for d, and reports whether ctx lasted that long. It returns at once if d is not
// positive.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}
