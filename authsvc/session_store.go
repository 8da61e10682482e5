package authsvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ErrInvalidRefreshToken is all that anybody learns of a refresh token that is not good. Its cause says why, for the log.
var ErrInvalidRefreshToken = fault.New(fault.Unauthenticated, "invalid_refresh_token", "Invalid refresh token")

// Why a refresh token is not good, for operators.
var (
	errNotAToken      = errors.New("not a refresh token")
	errUnknownSession = errors.New("unknown session")
	errForged         = errors.New("forged token")
	errOver           = errors.New("session was ended")
	errExpired        = errors.New("session has run out")
	errAhead          = errors.New("token is later than the session's record")
	errChannel        = errors.New("token came in the body or in a cookie where it belongs into the other")
	errReused         = errors.New("token was used before")
	errAccountGone    = errors.New("account is gone")
	errAccountOff     = errors.New("account may not log in")
	errSignedOut      = errors.New("all sessions of the account were ended")
)

// errStaleRead is that the store answered with less than it has acknowledged, or that this request lost to its own double.
var errStaleRead = fault.New(fault.Unavailable, "session_unsettled", "Your session could not be read reliably. Please try again.").After(time.Second)

// sessions keeps sessions in a store.
type sessions struct {
	store  SessionStore
	revoke func(context.Context, token.Revocation) error
	rules  SessionRules
	now    func() time.Time
	outage *outage // nil for who uses no refresh tokens
}

// An exchange is what the use of a refresh token came to.
type exchange struct {
	session  session // as it is then
	revision uint64  // of that
	token    refreshToken
	again    bool // it had been used already, and this is the same answer
}

// begin stores a new session of the account and returns its first token.
func (s *sessions) begin(ctx context.Context, id string, a Account, cookie bool) (exchange, error) {
	x, first := newSession(id, a, cookie, s.now().UTC(), s.rules.Life)
	value, err := x.encode()
	if err != nil {
		return exchange{}, err
	}
	err = insist(ctx, func() error {
		_, err := s.store.Create(ctx, id, value)
		if errors.Is(err, bus.ErrKeyExists) { // an earlier try of ours: the id is random
			return nil
		}
		return err
	})
	if err != nil {
		return exchange{}, fmt.Errorf("begin session: %w", err)
	}
	return exchange{session: x, token: first}, nil
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

// of returns the session that has given out p, whenever that was, or ErrInvalidRefreshToken.
func (s *sessions) of(ctx context.Context, p refreshToken) (session, error) {
	x, _, err := s.load(ctx, p.session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return session{}, refuseToken(errUnknownSession)
	case err != nil:
		return session{}, err
	case !p.marked(x.mark):
		return session{}, refuseToken(errForged)
	}
	return x, nil
}

// patienceWithRecords is how often a record is read again that is older than the token in hand.
const patienceWithRecords = 8

// use exchanges p, which came in a cookie or not, for the token after it. Before it does it asks admit, once, whether the session may
// go on at all. It returns ErrInvalidRefreshToken with the reason as its cause; where that is errReused, the caller ends the session
// of the exchange. Any other failure leaves p as it was or used, and asking again gives the same token in both cases.
//
// All decisions are made on what the leader has, and each is stored over the very revision that it was made on. Of any number of
// callers at once one succeeds; the others read again and decide again, and then what they hold is the token before the present one.
func (s *sessions) use(ctx context.Context, p refreshToken, cookie bool, admit func(context.Context, session) error) (exchange, error) {
	u := usage{sessions: s, token: p, cookie: cookie, admit: admit, arrived: s.now()}
	var out exchange
	err := insist(ctx, func() error {
		for {
			var err error
			out, err = u.try(ctx)
			if !errors.Is(err, bus.ErrStale) { // somebody else was faster, and what they did is what counts now
				return err
			}
		}
	})
	ended := s.now()
	late := s.rules.Grace > 0 && ended.Sub(u.arrived) > lateAnswer
	if late || fault.KindOf(err) == fault.Unavailable {
		s.outage.note(u.arrived, ended, s.rules.comeBack())
	}
	if wait, unanswered := toldToWait(err); unanswered || late {
		s.hold(ctx, out, p, u.arrived, wait)
	}
	return out, err
}

const (
	// lateAnswer is how long an exchange may take before the grace is counted from its end.
	lateAnswer = time.Second
	// holdPatience is what may be spent on storing that.
	holdPatience = time.Second
	// longestHold bounds for how long a client may have been told to wait.
	longestHold = time.Minute
)

// toldToWait reports whether err leaves it open what a refresh token is good for, and for how long its client is told to wait.
func toldToWait(err error) (wait time.Duration, open bool) {
	if err == nil || errors.Is(err, ErrInvalidRefreshToken) {
		return 0, false
	}
	return min(fault.From(err).RetryAfter, longestHold), true
}

// hold keeps the way open for a client that used p in time and has not been answered, or so late that it may have stopped waiting.
// It will use p again, here or at another instance, after the wait that it was told, and must not be taken for a thief by then.
// It is tried once: the client has waited for long enough.
func (s *sessions) hold(ctx context.Context, last exchange, p refreshToken, arrived time.Time, wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdPatience)
	defer cancel()
	x, revision := last.session, last.revision
	for {
		if revision == 0 {
			var err error
			if x, revision, err = s.load(ctx, p.session); err != nil {
				return
			}
		}
		if v := s.judge(x, p, arrived); v != present && v != repeated {
			return
		}
		x.heldGeneration, x.heldUntil = p.generation, s.now().Add(wait)
		value, err := x.encode()
		if err == nil {
			_, err = s.store.Update(ctx, x.id, value, revision)
		}
		if !errors.Is(err, bus.ErrStale) {
			return
		}
		revision = 0
	}
}

// judge says what p is good for in a request that arrived at that time.
//
// The grace counts from when the present generation was made. Where somebody who uses p again was not answered, or nobody could be, it counts from
// the end of that, and holds also where the grace is off: they were told to come back.
func (s *sessions) judge(x session, p refreshToken, at time.Time) verdict {
	grace, since := s.rules.Grace, x.rotated
	excuse := s.outage.since(x.rotated, grace)
	if x.heldGeneration == p.generation && x.heldUntil.After(excuse) {
		excuse = x.heldUntil
	}
	if excuse.After(since) {
		since, grace = excuse, s.rules.comeBack()
	}
	return x.judge(p, at, grace > 0 && at.Sub(since) <= grace, s.rules.Idle)
}

// A usage is one call of use.
type usage struct {
	*sessions
	token    refreshToken
	cookie   bool
	admit    func(context.Context, session) error
	arrived  time.Time
	admitted bool
	stored   *session // what an earlier try may have stored: nobody has heard
	behind   int      // how often the record was older than the token
}

func (u *usage) try(ctx context.Context) (exchange, error) {
	have, revision, err := u.load(ctx, u.token.session)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return exchange{}, refuseToken(errUnknownSession)
	case err != nil && u.stored == nil:
		return exchange{}, backoff.Permanent(err) // the store has been patient, and nothing has changed
	case err != nil:
		return exchange{}, err
	}
	switch u.judge(have, u.token, u.arrived) {
	case forged:
		return exchange{}, refuseToken(errForged)
	case over:
		return exchange{session: have}, refuseToken(errOver)
	case expired:
		return exchange{}, refuseToken(errExpired)
	case ahead:
		if u.behind++; u.behind > patienceWithRecords {
			return exchange{}, refuseToken(errAhead) // the store has been restored from an older state
		}
		return exchange{}, errStaleRead
	case reused:
		switch {
		case u.stored == nil:
			return exchange{session: have}, refuseToken(errReused)
		case have.generation == u.stored.generation && have.salt == u.stored.salt: // ours, after all
		case have.generation > u.stored.generation: // our double was answered, and its client has gone on
			return exchange{}, backoff.Permanent(errStaleRead)
		default:
			return exchange{session: have}, refuseToken(errReused)
		}
		return exchange{session: have, revision: revision, token: u.token.successor(have.salt, have.mark)}, nil
	}
	if have.cookie != u.cookie {
		return exchange{}, refuseToken(errChannel)
	}
	if !u.admitted {
		if err := u.admit(ctx, have); err != nil {
			return exchange{session: have}, backoff.Permanent(err)
		}
		u.admitted = true
	}
	if have.generation > u.token.generation {
		again := u.stored == nil || have.salt != u.stored.salt
		return exchange{session: have, revision: revision, token: u.token.successor(have.salt, have.mark), again: again}, nil
	}
	next, successor := have.next(u.token, u.now().UTC())
	value, err := next.encode()
	if err != nil {
		return exchange{}, err
	}
	if revision, err = u.store.Update(ctx, next.id, value, revision); err != nil {
		if fault.KindOf(err) == fault.Unavailable {
			u.stored = &next
		}
		return exchange{}, err
	}
	return exchange{session: next, revision: revision, token: successor}, nil
}

// refuseToken returns what the client is told, with the reason for the log.
func refuseToken(why error) error { return ErrInvalidRefreshToken.Because(why) }

// end ends a session for good: no refresh token of it is taken any more, and its access tokens are taken back. It may be called again
// until it succeeds. A session that is not there has its access tokens taken back as well, and gives an empty one.
//
// The record says that the session is over before the tokens are taken back, so that whoever comes with a refresh token of it after a
// failure in between lets this be finished.
func (s *sessions) end(ctx context.Context, id, why string) (session, error) {
	var (
		x        session
		revision uint64
	)
	err := insist(ctx, func() error {
		for {
			var err error
			x, revision, err = s.load(ctx, id)
			if errors.Is(err, bus.ErrNoKey) {
				revision = 0
				return nil
			}
			if err != nil {
				return backoff.Permanent(err) // the store has been patient
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
	if err := s.takeBack(ctx, token.Revocation{Session: id}); err != nil {
		return session{}, err
	}
	if revision > 0 {
		_ = s.store.Delete(ctx, id, revision) // it only makes room: the record is over, and the bucket drops it in time
	}
	return x, nil
}

// takeBackAll takes back every token of an account that is gone, and gets no others. So they need not be told from later ones, and NotBefore
// may be as far ahead as it can: also a token goes that an instance issued whose clock is ahead.
func (s *sessions) takeBackAll(ctx context.Context, account string) error {
	return s.takeBack(ctx, token.Revocation{Subject: account, NotBefore: s.now().Add(token.ClockLeeway)})
}

// takeBack revokes as of now. An At that is older than the try would be one that readers have decided without already.
func (s *sessions) takeBack(ctx context.Context, r token.Revocation) error {
	err := insist(ctx, func() error {
		r.At = s.now().UTC().Truncate(time.Microsecond)
		return s.revoke(ctx, r)
	})
	if err != nil {
		return fmt.Errorf("take back tokens: %w", err)
	}
	return nil
}
