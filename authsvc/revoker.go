package authsvc

import (
	"context"
	"fmt"
	"time"

	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// writes says how long a write is repeated while NATS has no leader: after a leader's sudden death,
// writes stop for 5 to 8 s.
var writes = retry.Policy{
	First: 20 * time.Millisecond, Longest: time.Second, Within: 10 * time.Second, When: retry.Unavailable,
}

// A revoker revokes tokens at every service.
type revoker struct {
	publish func(context.Context, token.Revocation) error
	now     func() time.Time
}

// revoke publishes a revocation until it is stored. Without an At it holds as of now, at each try:
// readers have already decided without an older one.
func (v revoker) revoke(ctx context.Context, r token.Revocation) error {
	asOfNow := r.At.IsZero()
	err := writes.Do(ctx, func() error {
		if asOfNow {
			r.At = v.now().UTC().Truncate(time.Microsecond)
		}
		return v.publish(ctx, r)
	})
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// revokeSession revokes the access tokens of a session.
func (v revoker) revokeSession(ctx context.Context, id string) error {
	return v.revoke(ctx, token.Revocation{Session: id})
}

// revokeEpochs revokes the access tokens of the account's session epochs before the present one.
func (v revoker) revokeEpochs(ctx context.Context, a Account) error {
	return v.revoke(ctx, token.Revocation{Subject: a.ID, NotBefore: a.NotBefore})
}

// revokeSubject revokes every token of a deleted account. It gets no later ones, so NotBefore may
// be as far ahead as possible. That includes tokens of an instance whose clock is ahead.
func (v revoker) revokeSubject(ctx context.Context, account string) error {
	return v.revoke(ctx, token.Revocation{Subject: account, NotBefore: v.now().Add(token.ClockLeeway)})
}
