package bus

import (
	"context"
	"time"

	"github.com/example/pillion/internal/retry"
)

// Retries is the policy for calls to NATS that may succeed within moments. It gives up after a
// time; zero: when the context ends.
func Retries(within time.Duration) retry.Policy {
	return retry.Policy{First: 5 * time.Millisecond, Longest: 500 * time.Millisecond, Within: within}
}

// Within returns ctx if it ends within d, and otherwise a context that does. Requests over HTTP end
// by then in any case, and another context costs eight allocations.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}
