package bus

import (
	"time"

	"github.com/example/pillion/internal/retry"
)

// Retries is the policy for calls to NATS that may succeed within moments. It gives up after a
// time; zero: when the context ends.
func Retries(within time.Duration) retry.Policy {
	return retry.Policy{First: 5 * time.Millisecond, Longest: 500 * time.Millisecond, Within: within}
}
