// Package throttle limits how often passwords, tokens and registrations may be tried.
//
// Make a [LoginThrottle] with [New]. [LoginThrottle.Reserve] counts a try before any work is done
// for it, and its [Reservation] is told the outcome. The counters are in a bucket that all
// instances of authsvc share: of any number of simultaneous tries, on any number of instances, no
// more pass than are allowed. Without that bucket nothing passes. [Turns] are another kind of
// limit: they share out what an instance can do at a time.
package throttle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ErrLimited refuses a try that comes too early. It does not tell whether the account exists.
var ErrLimited = fault.New(fault.Exhausted, "too_many_attempts",
	"Too many attempts. Please wait a moment and try again.")

// A BackoffPolicy says how often something may be tried: a number of free tries, and then one at
// a time after a wait that doubles. It never locks: strangers can make the owner of an account
// wait for LongestWait, but not longer.
type BackoffPolicy struct {
	Free        int           // tries without a wait
	FirstWait   time.Duration // after the free tries
	LongestWait time.Duration
	// ForgetAfter is how long after the last try all are forgotten; more than LongestWait.
	ForgetAfter time.Duration
}

// delay returns the wait after a number of tries beyond the free ones.
func (p BackoffPolicy) delay(over int) time.Duration {
	d := p.FirstWait
	for range over {
		if d *= 2; d >= p.LongestWait {
			return p.LongestWait
		}
	}
	return d
}

// Limits are the policies of a LoginThrottle.
type Limits struct {
	// Account limits the wrong passwords for one (email, role) pair, whether or not there is such
	// an account. A familiar network, from which the account has lately been logged in to, has a
	// counter of its own, so that strangers cannot keep the owner out.
	Account BackoffPolicy
	// Address limits the wrong passwords, and the refused refresh tokens, of one client network.
	Address BackoffPolicy
	// Registrations limits the accounts that one client network creates.
	Registrations BackoffPolicy
	// Refreshes limits how often the sessions of one account are refreshed.
	Refreshes BackoffPolicy
}

// DefaultLimits returns the limits of a service that is configured with no others.
func DefaultLimits() Limits {
	return Limits{
		Account: BackoffPolicy{Free: 5, FirstWait: time.Second, LongestWait: 15 * time.Minute,
			ForgetAfter: time.Hour},
		Address: BackoffPolicy{Free: 100, FirstWait: time.Second, LongestWait: time.Minute,
			ForgetAfter: 10 * time.Minute},
		Registrations: BackoffPolicy{Free: 100, FirstWait: time.Second, LongestWait: 5 * time.Minute,
			ForgetAfter: time.Hour},
		Refreshes: BackoffPolicy{Free: 100, FirstWait: time.Second, LongestWait: time.Minute,
			ForgetAfter: 10 * time.Minute},
	}
}

// longestMemory bounds ForgetAfter. The bucket of counters keeps its values for longer.
const longestMemory = 12 * time.Hour

// A Bucket is what a LoginThrottle needs of a key-value bucket. Reads must come from the leader.
// Failures other than those named are of kind fault.Unavailable.
type Bucket interface {
	// Get returns the value of a key and its revision, or bus.ErrNoKey.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// Create stores a new key, or returns bus.ErrKeyExists.
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Update stores a value over a revision, or returns bus.ErrStale.
	Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error)
	// Erase erases a key of a revision, or returns bus.ErrStale.
	Erase(ctx context.Context, key string, revision uint64) error
}

var _ Bucket = (*bus.Bucket)(nil)

// Config holds the settings of a LoginThrottle. Counters and Familiar are required.
type Config struct {
	Counters Bucket // the counters; must keep values longer than any ForgetAfter
	Familiar Bucket // the networks from which accounts were logged in to; its values must expire
	Limits   Limits
	Now      func() time.Time // default: time.Now
}

// A LoginThrottle limits tries. It is safe for concurrent use. A nil *LoginThrottle limits nothing.
type LoginThrottle struct {
	counters, familiar Bucket
	limits             Limits
	now                func() time.Time
	locks              keyedLocks
}

// New returns a LoginThrottle, or an error that joins everything that is wrong with its
// configuration.
func New(c Config) (*LoginThrottle, error) {
	var wrong []error
	if c.Counters == nil || c.Familiar == nil {
		wrong = append(wrong, errors.New("throttle: Counters and Familiar are required"))
	}
	for name, p := range map[string]BackoffPolicy{
		"Account": c.Limits.Account, "Address": c.Limits.Address,
		"Registrations": c.Limits.Registrations, "Refreshes": c.Limits.Refreshes,
	} {
		if p.Free < 1 || p.FirstWait <= 0 || p.LongestWait < p.FirstWait || p.ForgetAfter <= p.LongestWait ||
			p.ForgetAfter > longestMemory {
			wrong = append(wrong, fmt.Errorf("throttle: %s cannot be %+v", name, p))
		}
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &LoginThrottle{
		counters: c.Counters, familiar: c.Familiar, limits: c.Limits, now: c.Now, locks: newKeyedLocks(),
	}, nil
}

// Registration counts an account that is about to be created from a client network. Errors:
// ErrLimited with the wait, and faults of kind fault.Unavailable.
func (t *LoginThrottle) Registration(ctx context.Context, network string) error {
	if t == nil {
		return nil
	}
	return t.take(ctx, networkKey(network, "registrations"), t.limits.Registrations)
}

// Refresh counts a refresh of one of the account's sessions. Call it only for a good refresh
// token, so that bad ones use up nothing. Errors are those of Registration.
func (t *LoginThrottle) Refresh(ctx context.Context, accountID string) error {
	if t == nil {
		return nil
	}
	return t.take(ctx, counterKey("refreshes", accountID), t.limits.Refreshes)
}

// BadToken counts a refresh token that was refused. It is counted afterwards: a token has too
// many random bits to be guessed, and a good one must not wait for a counter that its whole
// network shares. So nobody's neighbours can log them out. Errors are those of Registration.
func (t *LoginThrottle) BadToken(ctx context.Context, network string) error {
	if t == nil {
		return nil
	}
	return t.take(ctx, networkKey(network, "tokens"), t.limits.Address)
}

// An Owner names the counters of one (email, role) pair, whether or not there is such an account.
type Owner struct {
	// Email is in the spelling of an account's address, or is what was typed if that is no address.
	Email string
	Role  token.Role
}

func (o Owner) key() string { return counterKey("account", string(o.Role), o.Email) }

// familiarKey returns the key of the pair and a client network, in both buckets. It is empty
// where the network is unknown.
func (o Owner) familiarKey(network string) string {
	return networkKey(network, "familiar", string(o.Role), o.Email)
}

// Forget erases the counters of a deleted account, and that it was logged in to from this
// network. The keys of other networks are hashes, so they cannot be found; they expire. If reused
// is true, another account has the email and role by now, and their counters stay.
func (t *LoginThrottle) Forget(ctx context.Context, accountID string, o Owner, network string, reused bool) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	failed := []error{erase(ctx, t.counters, counterKey("refreshes", accountID))}
	if !reused {
		failed = append(failed, erase(ctx, t.counters, o.key()))
		if key := o.familiarKey(network); key != "" {
			failed = append(failed, erase(ctx, t.counters, key), erase(ctx, t.familiar, key))
		}
	}
	return errors.Join(failed...)
}
