package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// A Bucket is what a Store needs of a key-value bucket. The key of a session is its id. Reads
// must come from the leader. Failures other than those named are of kind fault.Unavailable, and
// leave the outcome of a write unknown.
type Bucket interface {
	// Get returns the value of a key and its revision, or bus.ErrNoKey.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// Create stores a new key, or returns bus.ErrKeyExists.
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Update stores a value over a revision, or returns bus.ErrStale.
	Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error)
	// Delete deletes a key of a revision, or returns bus.ErrStale.
	Delete(ctx context.Context, key string, revision uint64) error
}

var _ Bucket = (*bus.Bucket)(nil)

// ErrInvalidToken refuses every bad refresh token alike. Its cause is the reason, for the log.
var ErrInvalidToken = fault.New(fault.Unauthenticated, "invalid_refresh_token", "Invalid refresh token")

// Reasons to refuse a refresh token. After ErrReused and ErrEnded, call [Store.End].
var (
	ErrReused         = errors.New("token was used before")
	ErrEnded          = errors.New("session was ended")
	errNotAToken      = errors.New("not a refresh token")
	errUnknownSession = errors.New("unknown session")
	errForged         = errors.New("forged token")
	errExpired        = errors.New("session has expired")
	errNewer          = errors.New("token is newer than the session's record")
	errChannel        = errors.New("token came in the body instead of a cookie, or the reverse")
)

// refuse returns the error for the client, with the reason for the log.
func refuse(why error) error { return ErrInvalidToken.Because(why) }

// errStaleRead says that the bucket returned less than it has acknowledged, or that a simultaneous
// duplicate of this request was answered.
var errStaleRead = fault.New(fault.Unavailable, "session_unsettled",
	"Your session could not be read reliably. Please try again.").After(time.Second)

// writes says how long a write is repeated while NATS has no leader: after a leader's sudden death,
// writes stop for 5 to 8 s.
var writes = retry.Policy{
	First: 20 * time.Millisecond, Longest: time.Second, Within: 10 * time.Second, When: retry.Unavailable,
}

// Config holds the settings of a Store. Bucket, Revoke and Now are required.
type Config struct {
	Bucket Bucket
	// Revoke revokes the access tokens of a session. It may be repeated.
	Revoke func(ctx context.Context, id string) error
	Rules  Rules
	Now    func() time.Time
}

// A Store keeps sessions in a bucket. It is safe for concurrent use, and any number of Stores can
// share a bucket.
type Store struct {
	bucket Bucket
	revoke func(context.Context, string) error
	rules  Rules
	now    func() time.Time
	grace  *graceClock
}

// New returns a Store, or an error that says what is wrong with the rules.
func New(c Config) (*Store, error) {
	rules, err := c.Rules.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Store{bucket: c.Bucket, revoke: c.Revoke, rules: rules, now: c.Now, grace: newGraceClock(rules, c.Now())},
		nil
}

// WatchClock returns clock, which returns why the time cannot be trusted, or nil. The Store notes
// when it recovers, because clients that were refused meanwhile come back then. A nil clock stays
// nil.
func (s *Store) WatchClock(clock func() error) func() error { return s.grace.watch(clock, s.now) }

// Begin stores a new session with that id and returns it with its first refresh token.
func (s *Store) Begin(ctx context.Context, id string, o Owner, cookie bool) (Session, Token, error) {
	x, first := newSession(id, o, cookie, s.now().UTC(), s.rules.Life)
	value, err := x.encode()
	if err != nil {
		return Session{}, Token{}, err
	}
	err = writes.Do(ctx, func() error {
		_, err := s.bucket.Create(ctx, id, value)
		if errors.Is(err, bus.ErrKeyExists) { // stored by an earlier try: the id is random
			return nil
		}
		return err
	})
	if err != nil {
		return Session{}, Token{}, fmt.Errorf("begin session: %w", err)
	}
	return x, first, nil
}

// Of returns the session that has given out the token, at any time, or ErrInvalidToken.
func (s *Store) Of(ctx context.Context, t Token) (Session, error) {
	x, _, err := s.load(ctx, t.Session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return Session{}, refuse(errUnknownSession)
	case err != nil:
		return Session{}, err
	case !t.taggedWith(x.TagKey):
		return Session{}, refuse(errForged)
	}
	return x, nil
}

// End ends a session for good and returns it: its refresh tokens are refused from now on, and its
// access tokens are revoked. why is stored with it. End may be repeated. If there is no such
// session, it revokes the access tokens and returns an empty one.
//
// It stores the end before it revokes the tokens. After a failure in between, the next use of a
// refresh token fails with ErrEnded, and its caller calls End again.
func (s *Store) End(ctx context.Context, id, why string) (Session, error) {
	var (
		x        Session
		revision uint64
	)
	err := writes.Do(ctx, func() error {
		for {
			var err error
			x, revision, err = s.load(ctx, id)
			if errors.Is(err, bus.ErrNoKey) {
				revision = 0
				return nil
			}
			if err != nil {
				return retry.Permanent(err) // the bucket has repeated the read itself
			}
			if !x.Ended.IsZero() {
				return nil
			}
			x.Ended, x.Why = s.now().UTC(), why
			value, err := x.encode()
			if err != nil {
				return err
			}
			if revision, err = s.bucket.Update(ctx, id, value, revision); !errors.Is(err, bus.ErrStale) {
				return err
			}
		}
	})
	if err != nil {
		return Session{}, fmt.Errorf("end session: %w", err)
	}
	if err := s.revoke(ctx, id); err != nil {
		return Session{}, err
	}
	if revision > 0 {
		// This only frees space: the bucket drops the record later anyway.
		_ = s.bucket.Delete(ctx, id, revision)
	}
	return x, nil
}

// load returns the session of that id and its revision, or bus.ErrNoKey.
func (s *Store) load(ctx context.Context, id string) (Session, uint64, error) {
	value, revision, err := s.bucket.Get(ctx, id)
	if err != nil {
		return Session{}, 0, err
	}
	x, err := decode(id, value)
	return x, revision, err
}
