package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// A graceClock tells until when a refresh token may be used again. The rule: the grace begins at
// the last moment at which its client may not have been answered. That is
//
//   - the rotation of the session, whose answer may be lost;
//   - or, in the session's record, the time at which a client was told to come back;
//   - or the end of an interruption, in which no record could be written.
//
// An interruption is a time in which this instance was not running, could not use the store, or
// could not trust its clock. The record and the interruption give the client a grace even where
// the rules have none, because it was told to come back. A graceClock is safe for concurrent use.
type graceClock struct {
	rules Rules

	mu          sync.Mutex
	from, until time.Time // of the last interruption
}

// newGraceClock returns the graceClock of an instance that starts now.
func newGraceClock(rules Rules, now time.Time) *graceClock {
	return &graceClock{rules: rules, until: now}
}

// end returns until when the token of a generation may be used again: the zero time for never.
func (g *graceClock) end(x Session, generation int) time.Time {
	excused := g.interruptedUntil(x.Rotated)
	if x.Held == generation && x.HeldUntil.After(excused) {
		excused = x.HeldUntil
	}
	switch {
	case excused.After(x.Rotated):
		return excused.Add(g.rules.comeBack())
	case g.rules.Grace > 0:
		return x.Rotated.Add(g.rules.Grace)
	}
	return time.Time{}
}

// interruptedUntil returns the end of the last interruption, if it began before the grace of
// something stored at that time was over, and otherwise that time.
func (g *graceClock) interruptedUntil(stored time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.After(stored) && !g.from.After(stored.Add(g.rules.Grace)) {
		return g.until
	}
	return stored
}

// interrupted notes an interruption. It continues the last one if it begins before clients that
// were told to come back then have done so.
func (g *graceClock) interrupted(from, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if from.After(g.until.Add(g.rules.comeBack())) || from.Before(g.from) {
		g.from = from
	}
	if until.After(g.until) {
		g.until = until
	}
}

// watch returns clock, and notes an interruption whenever it recovers. Its beginning is unknown:
// times of a wrong clock are worth nothing.
func (g *graceClock) watch(clock func() error, now func() time.Time) func() error {
	if clock == nil {
		return nil
	}
	var off atomic.Bool
	return func() error {
		err := clock()
		if err != nil {
			off.Store(true)
		} else if off.CompareAndSwap(true, false) {
			g.interrupted(time.Time{}, now())
		}
		return err
	}
}

const (
	// lateAnswer is after how long the client may have missed the answer.
	lateAnswer  = time.Second
	holdTimeout = time.Second // for storing that in the session's record
	longestHold = time.Minute // bounds the wait that a client was told
)

// Done ends the use of a token. err is the error that answers the request, or nil. If the client
// may have missed the answer, because that is late or is an error that says nothing about the
// token, Done notes it: in the session's record for all instances, and as an interruption if the
// bucket is unavailable or slow.
func (u *Use) Done(ctx context.Context, err error) {
	answered := u.store.now()
	late := u.store.rules.Grace > 0 && answered.Sub(u.arrived) > lateAnswer
	if late || fault.KindOf(err) == fault.Unavailable {
		u.store.grace.interrupted(u.arrived, answered)
	}
	undecided := err != nil && !errors.Is(err, ErrInvalidToken)
	if !late && !undecided {
		return
	}
	var wait time.Duration // that the client was told
	if undecided {
		wait = min(fault.From(err).RetryAfter, longestHold)
		u.revision = 0
	}
	u.hold(ctx, wait)
}

// hold stores in the session's record that the client may use its token again after a wait, at
// any instance, if the token was good when the request arrived. It tries once: the client has
// waited long enough.
func (u *Use) hold(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTimeout)
	defer cancel()
	x, revision := u.Session, u.revision
	for {
		if revision == 0 {
			var err error
			if x, revision, err = u.store.load(ctx, u.token.Session); err != nil {
				return
			}
		}
		if v := u.store.judge(x, u.token, u.arrived); v != current && v != repeated {
			return
		}
		x.Held, x.HeldUntil = u.token.Generation, u.store.now().Add(wait).UTC()
		value, err := x.encode()
		if err == nil {
			_, err = u.store.bucket.Update(ctx, x.ID, value, revision)
		}
		if !errors.Is(err, bus.ErrStale) {
			return
		}
		revision = 0
	}
}
