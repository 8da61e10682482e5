package session

import (
	"context"
	"errors"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// A Use is the use of a refresh token by one request. Call Load, Store if the session may
// continue, and in any case Done.
type Use struct {
	// Session is what Load has found, and then what Store has stored. It is set also when Load
	// fails with ErrReused or ErrEnded.
	Session Session
	// Repeated says after Store that the token had been used before, and that this is the same
	// answer.
	Repeated bool

	store    *Store
	token    Token
	inCookie bool
	arrived  time.Time

	revision uint64   // of Session in the bucket; 0: unknown
	rotate   bool     // the token is the current one
	written  *Session // by an earlier try of Store, with unknown outcome
	newer    int      // how often the token was newer than the record
}

// Use begins the use of a refresh token that arrives now, in a cookie or in a body.
func (s *Store) Use(t Token, inCookie bool) *Use {
	return &Use{store: s, token: t, inCookie: inCookie, arrived: s.now()}
}

// Load loads the token's session and decides what the token is good for. Errors: ErrInvalidToken
// with the reason as its cause, and faults of kind fault.Unavailable.
func (u *Use) Load(ctx context.Context) error {
	return writes.Do(ctx, func() error { return u.load(ctx) })
}

// Store stores the session's next generation and returns the token's successor. For a token that
// was used before it returns the successor of that use. Errors are those of Load. After a failure
// the token is either as good as before or was used, and using it again gives the same successor
// in both cases.
//
// It stores over the very revision that was decided on. Of several simultaneous uses of a token
// one is stored. The others load again, and find that theirs is the token before the current one.
func (u *Use) Store(ctx context.Context) (Token, error) {
	var successor Token
	loaded := true // by Load
	err := writes.Do(ctx, func() error {
		for {
			if !loaded {
				if err := u.load(ctx); err != nil {
					return err
				}
			}
			loaded = false
			var err error
			if successor, err = u.write(ctx); !errors.Is(err, bus.ErrStale) {
				return err
			}
		}
	})
	if err != nil {
		return Token{}, err
	}
	return successor, nil
}

// load loads the session once and decides. Before a write has an unknown outcome, a failure to
// load is final: the bucket has already repeated the read itself.
func (u *Use) load(ctx context.Context) error {
	have, revision, err := u.store.load(ctx, u.token.Session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return refuse(errUnknownSession)
	case err != nil && u.written == nil:
		return retry.Permanent(err)
	case err != nil:
		return err
	}
	u.Session, u.revision = Session{}, 0
	err = u.decide(have)
	if err == nil {
		u.revision = revision
	}
	if err == nil || errors.Is(err, ErrReused) || errors.Is(err, ErrEnded) {
		u.Session = have
	}
	return err
}

// mostNewer is how often a record is read again that is older than the token.
const mostNewer = 8

// decide decides whether the token rotates the session or repeats its last rotation.
func (u *Use) decide(have Session) error {
	u.rotate, u.Repeated = false, false
	switch u.store.judge(have, u.token, u.arrived) {
	case forged:
		return refuse(errForged)
	case ended:
		return refuse(ErrEnded)
	case expired:
		return refuse(errExpired)
	case newer:
		if u.newer++; u.newer > mostNewer {
			return refuse(errNewer) // the bucket was restored from a backup
		}
		return errStaleRead
	case reused:
		switch {
		case u.written == nil || have.Generation < u.written.Generation:
			return refuse(ErrReused)
		// A duplicate was answered, and its client has gone on.
		case have.Generation > u.written.Generation:
			return retry.Permanent(errStaleRead)
		case have.Salt != u.written.Salt:
			return refuse(ErrReused)
		}
		return nil // an earlier try of this use was stored
	case repeated:
		u.Repeated = u.written == nil || have.Salt != u.written.Salt
	case current:
		u.rotate = true
	}
	if have.Cookie != u.inCookie {
		return refuse(errChannel)
	}
	return nil
}

// write stores what was decided, over the revision that it was decided on. Errors: bus.ErrStale
// if the session has changed since.
func (u *Use) write(ctx context.Context) (successor Token, err error) {
	if !u.rotate {
		return u.token.successor(u.Session.Salt, u.Session.TagKey), nil
	}
	next, successor := u.Session.next(u.token, u.store.now().UTC())
	value, err := next.encode()
	if err != nil {
		return Token{}, err
	}
	revision, err := u.store.bucket.Update(ctx, next.ID, value, u.revision)
	if fault.KindOf(err) == fault.Unavailable {
		u.written = &next
	}
	if err != nil {
		return Token{}, err
	}
	u.Session, u.revision = next, revision
	return successor, nil
}
