package throttle

import (
	"context"
	"errors"
	"fmt"

	"github.com/example/pillion/bus"
)

// A Reservation is one try that was counted in advance. Call Succeeded or Withdraw when the
// outcome is known; a wrong try needs no call. The methods of a nil *Reservation do nothing.
type Reservation struct {
	throttle         *LoginThrottle
	address, account string // keys of counters
	familiar         string // key in the bucket of familiar networks
	known            bool   // that key exists
	tries            int    // of the account, this one included
}

// First reports whether nobody else has lately tried to prove the ownership of that account, and
// failed. So the number of first tries that fail is the number of accounts that are tried.
func (r *Reservation) First() bool { return r != nil && r.tries == 1 }

// Reserve counts a try to prove the ownership of an account, before any work is done for it.
// network is the client's, or empty where it is unknown. Errors: ErrLimited with the wait, and
// faults of kind fault.Unavailable. A nil LoginThrottle returns a nil Reservation.
func (t *LoginThrottle) Reserve(ctx context.Context, network string, o Owner) (*Reservation, error) {
	if t == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := &Reservation{throttle: t, address: networkKey(network, "address"), account: o.key(),
		familiar: o.familiarKey(network)}
	if r.familiar != "" {
		switch _, _, err := t.familiar.Get(ctx, r.familiar); {
		case err == nil:
			r.account, r.known = r.familiar, true
		case !errors.Is(err, bus.ErrNoKey):
			return nil, fmt.Errorf("look for a familiar network: %w", err)
		}
	}
	if err := t.take(ctx, r.address, t.limits.Address); err != nil {
		return nil, err
	}
	// The account's limit refuses the try, so it must not count against the network either.
	var err error
	if r.tries, err = t.count(ctx, r.account, t.limits.Account); err != nil {
		return nil, errors.Join(err, t.giveBack(context.WithoutCancel(ctx), r.address))
	}
	return r, nil
}

// Succeeded records that the try proved the ownership. It forgets the account's wrong tries.
// Those of the network stay, or a login to one's own account would buy more guesses at others. An
// error means that somebody may have to wait without need; it is no reason to refuse the login.
func (r *Reservation) Succeeded(ctx context.Context) error {
	if r == nil {
		return nil
	}
	var known error
	// The key expires after 30 days, and is created again at the next login.
	if !r.known && r.familiar != "" {
		if _, known = r.throttle.familiar.Create(ctx, r.familiar, []byte("{}")); errors.Is(known, bus.ErrKeyExists) {
			known = nil
		}
	}
	return errors.Join(r.throttle.clear(ctx, r.account), r.throttle.giveBack(ctx, r.address), known)
}

// Withdraw uncounts a try whose outcome could not be determined.
func (r *Reservation) Withdraw(ctx context.Context) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.throttle.giveBack(ctx, r.account), r.throttle.giveBack(ctx, r.address))
}
