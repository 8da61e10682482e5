package authsvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// A SessionStore is a key-value bucket of sessions. The key of a session is its id. Reads must come
// from the leader. Failures other than those named are of kind fault.Unavailable, and leave the outcome
// of a write unknown.
type SessionStore interface {
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)                        // or bus.ErrNoKey
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)                     // or bus.ErrKeyExists
	Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error) // or bus.ErrStale
	Delete(ctx context.Context, key string, revision uint64) error                                         // or bus.ErrStale
}

var _ SessionStore = (*bus.Bucket)(nil)

// ErrInvalidRefreshToken refuses every bad refresh token alike. Its cause is the reason, for the log.
var ErrInvalidRefreshToken = fault.New(fault.Unauthenticated, "invalid_refresh_token", "Invalid refresh token")

// Reasons to refuse a refresh token, for operators.
var (
	errNotAToken      = errors.New("not a refresh token")
	errUnknownSession = errors.New("unknown session")
	errForged         = errors.New("forged token")
	errEnded          = errors.New("session was ended")
	errExpired        = errors.New("session has expired")
	errNewer          = errors.New("token is newer than the session's record")
	errChannel        = errors.New("token came in the body instead of a cookie, or the reverse")
	errReused         = errors.New("token was used before")
	errAccountGone    = errors.New("account was deleted")
	errAccountOff     = errors.New("account may not log in")
	errEpochEnded     = errors.New("all sessions of the account were ended")
)

// refuseToken returns the error for the client, with the reason for the log.
func refuseToken(why error) error { return ErrInvalidRefreshToken.Because(why) }

// errStaleRead says that the store returned less than it has acknowledged, or that a simultaneous
// duplicate of this request was answered.
var errStaleRead = fault.New(fault.Unavailable, "session_unsettled", "Your session could not be read reliably. Please try again.").After(time.Second)

// writes says how long a write is repeated while NATS has no leader: after a leader's sudden death,
// writes stop for 5 to 8 s.
var writes = retry.Policy{First: 20 * time.Millisecond, Longest: time.Second, Within: 10 * time.Second, When: retry.Unavailable}

// retryUntilDone repeats op while it fails with kind fault.Unavailable, as long as the policy writes
// and ctx allow. op must be repeatable. When ctx ends first, the error is of kind fault.Unavailable:
// the outcome may be unknown.
func retryUntilDone(ctx context.Context, op func() error) error {
	err := writes.Do(ctx, op)
	if err != nil && ctx.Err() != nil && fault.KindOf(err) == fault.Internal {
		return bus.ErrUnavailable.Because(err)
	}
	return err
}

// permanent wraps an error after which retryUntilDone does not repeat its op.
func permanent(err error) error { return retry.Permanent(err) }

// sessions are the sessions in a store.
type sessions struct {
	revoker
	store SessionStore
	rules SessionRules
	grace *graceClock
}

// begin stores a new session of the account and returns it with its first refresh token.
func (s *sessions) begin(ctx context.Context, id string, a Account, cookie bool) (session, refreshToken, error) {
	x, first := newSession(id, a, cookie, s.now().UTC(), s.rules.Life)
	value, err := x.encode()
	if err != nil {
		return session{}, refreshToken{}, err
	}
	err = retryUntilDone(ctx, func() error {
		_, err := s.store.Create(ctx, id, value)
		if errors.Is(err, bus.ErrKeyExists) { // stored by an earlier try: the id is random
			return nil
		}
		return err
	})
	if err != nil {
		return session{}, refreshToken{}, fmt.Errorf("begin session: %w", err)
	}
	return x, first, nil
}

// load returns the session of that id and its revision, or bus.ErrNoKey.
func (s *sessions) load(ctx context.Context, id string) (session, uint64, error) {
	value, revision, err := s.store.Get(ctx, id)
	if err != nil {
		return session{}, 0, err
	}
	x, err := decodeSession(id, value)
	return x, revision, err
}

// of returns the session that has given out p, at any time, or ErrInvalidRefreshToken.
func (s *sessions) of(ctx context.Context, p refreshToken) (session, error) {
	x, _, err := s.load(ctx, p.session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return session{}, refuseToken(errUnknownSession)
	case err != nil:
		return session{}, err
	case !p.taggedWith(x.tagKey):
		return session{}, refuseToken(errForged)
	}
	return x, nil
}

// A tokenUse is the use of a refresh token by one request, over all tries to store it.
type tokenUse struct {
	token    refreshToken
	inCookie bool
	arrived  time.Time
	stored   *session // an earlier try wrote it, with unknown outcome
	newer    int      // how often the token was newer than the record

	// The outcome.
	pair     tokenPair
	repeated bool   // the token was used before, and this is the same answer
	revision uint64 // of pair.session; 0: unknown
}

// loadFor loads the session of a token and its revision. Once a write has an unknown outcome, loading
// is repeated; before, a failure is final, because the store has already repeated the read itself.
func (s *sessions) loadFor(ctx context.Context, u *tokenUse) (session, uint64, error) {
	have, revision, err := s.load(ctx, u.token.session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		err = refuseToken(errUnknownSession)
	case err != nil && u.stored == nil:
		err = permanent(err)
	}
	return have, revision, err
}

// mostNewer is how often a record is read again that is older than the token.
const mostNewer = 8

// decide returns whether the use of the token rotates the session, or else repeats its last rotation.
// Errors: ErrInvalidRefreshToken with the reason, and errStaleRead.
func (s *sessions) decide(u *tokenUse, have session) (rotate bool, err error) {
	u.repeated = false
	switch s.judge(have, u.token, u.arrived) {
	case forged:
		return false, refuseToken(errForged)
	case ended:
		return false, refuseToken(errEnded)
	case expired:
		return false, refuseToken(errExpired)
	case newer:
		if u.newer++; u.newer > mostNewer {
			return false, refuseToken(errNewer) // the store was restored from a backup
		}
		return false, errStaleRead
	case reused:
		switch {
		case u.stored == nil || have.generation < u.stored.generation:
			return false, refuseToken(errReused)
		case have.generation > u.stored.generation: // a duplicate was answered, and its client has gone on
			return false, permanent(errStaleRead)
		case have.salt != u.stored.salt:
			return false, refuseToken(errReused)
		}
		return false, nil // an earlier try of this use was stored
	case repeated:
		u.repeated = u.stored == nil || have.salt != u.stored.salt
	case current:
		rotate = true
	}
	if have.cookie != u.inCookie {
		return false, refuseToken(errChannel)
	}
	return rotate, nil
}

// rotate stores the session after the use of its current token, over that revision. Errors:
// bus.ErrStale if the session has changed meanwhile.
func (s *sessions) rotate(ctx context.Context, u *tokenUse, have session, revision uint64) error {
	next, successor := have.next(u.token, s.now().UTC())
	value, err := next.encode()
	if err != nil {
		return err
	}
	revision, err = s.store.Update(ctx, next.id, value, revision)
	if fault.KindOf(err) == fault.Unavailable {
		u.stored = &next
	}
	if err != nil {
		return err
	}
	u.revision, u.pair.session, u.pair.refresh = revision, next, successor
	return nil
}

// end ends a session for good and returns it: its refresh tokens are refused from now on, and its
// access tokens are revoked. It may be repeated. If there is no such session, end revokes its access
// tokens and returns an empty one.
//
// It stores the end before it revokes the tokens. After a failure in between, the next use of a refresh
// token of the session calls end again.
func (s *sessions) end(ctx context.Context, id, why string) (session, error) {
	var (
		x        session
		revision uint64
	)
	err := retryUntilDone(ctx, func() error {
		for {
			var err error
			x, revision, err = s.load(ctx, id)
			if errors.Is(err, bus.ErrNoKey) {
				revision = 0
				return nil
			}
			if err != nil {
				return permanent(err) // the store has repeated the read itself
			}
			if !x.ended.IsZero() {
				return nil
			}
			x.ended, x.why = s.now(), why
			value, err := x.encode()
			if err != nil {
				return err
			}
			if revision, err = s.store.Update(ctx, id, value, revision); !errors.Is(err, bus.ErrStale) {
				return err
			}
		}
	})
	if err != nil {
		return session{}, fmt.Errorf("end session: %w", err)
	}
	if err := s.revoke(ctx, token.Revocation{Session: id}); err != nil {
		return session{}, err
	}
	if revision > 0 {
		_ = s.store.Delete(ctx, id, revision) // only frees space: the bucket drops the record later anyway
	}
	return x, nil
}
