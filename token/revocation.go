package token

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Revocations says whether a token was taken back. Its methods do not block, and are called at every use of a token.
type Revocations interface {
	// Revoked returns as of when tokens of that session or account, issued at a time, are not good any more; ok is false where
	// they are. Where several revocations fit, it is the earliest of their times.
	Revoked(subject, session string, issuedAt time.Time) (at time.Time, ok bool)
	// CompleteAsOf returns a time before which no revocation is missing: every one with an earlier At is known, and no other
	// with an earlier At comes any more, except from somebody who changes the past on purpose. It never goes back. It is zero as
	// long as nothing was ever loaded.
	CompleteAsOf() time.Time
}

// A Revocation takes tokens back: those of one session, or those of one account that were issued before a time.
//
// Its At is the time that verdicts go by, and it is the word of whoever revokes, not the time at which the revocation was stored:
// an operator who learns today that a phone was stolen on Sunday revokes as of Sunday, and what was done with it since is refused.
// At every other occasion it is now. It must not lie ahead, or events that are good now would be bad when they are read again.
type Revocation struct {
	Session   string    // sid; or
	Subject   string    // sub: the account
	NotBefore time.Time // of an account only: tokens with an earlier iat are taken back; rounded up to whole seconds, as iat has them
	At        time.Time // as of when; in whole microseconds
}

// Check returns ErrRevocation, with the particulars as its cause, for a revocation that says nothing, too much or what is still
// to come: At and NotBefore may be ahead of now by ClockLeeway (NotBefore before it is rounded up).
func (r Revocation) Check(now time.Time) error {
	say := func(format string, args ...any) error { return ErrRevocation.Because(fmt.Errorf(format, args...)) }
	latest := now.Add(ClockLeeway)
	switch {
	case (r.Session == "") == (r.Subject == ""):
		return say("it is to name a session or an account, and not both")
	case r.Session != "" && !validID(r.Session):
		return say("its session is not 26 characters of base32")
	case r.Subject != "" && !validID(r.Subject):
		return say("its account is not 26 characters of base32")
	case r.Session != "" && !r.NotBefore.IsZero():
		return say("a session is revoked as a whole: it has no NotBefore")
	case r.Subject != "" && r.NotBefore.Unix() <= 0:
		return say("an account is revoked for tokens issued before a time: NotBefore is missing")
	case r.NotBefore.After(latest):
		return say("its NotBefore is ahead by more than %v", ClockLeeway)
	case r.At.Unix() <= 0:
		return say("its At is missing")
	case r.At.After(latest):
		return say("its At is ahead by more than %v", ClockLeeway)
	}
	return nil
}

// Before returns the NotBefore as tokens are compared with it: in seconds since 1970, rounded up. A token whose iat is less is
// taken back. So every token of the second in which an account was revoked goes, also one that was issued after it: iat does not
// say which came first.
func (r Revocation) Before() int64 {
	s := r.NotBefore.Unix()
	if r.NotBefore.Nanosecond() > 0 {
		s++
	}
	return s
}

// A RevocationSet holds revocations in memory. The zero value is empty, knows of nothing yet, and is ready to use. It is safe
// for concurrent use.
type RevocationSet struct {
	complete atomic.Int64 // microseconds since 1970; 0 while nothing was ever loaded

	mu       sync.RWMutex
	sessions map[id]int64   // as of when, in microseconds since 1970
	accounts map[id][]until // see addTo
	count    int
}

var _ Revocations = (*RevocationSet)(nil)

// An id is an identifier as a key: without a pointer, so that a million of them are no work for the garbage collector.
type id [idLength]byte

// An until is a revocation of an account: tokens issued before a second are not good as of a microsecond.
type until struct{ before, at int64 }

// Add adds a revocation. It can be repeated; of two that fit the same token, the earlier At counts. One that names neither a
// session nor an account by a valid id is ignored: no token has such a one.
func (s *RevocationSet) Add(r Revocation) {
	at := r.At.UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions, s.accounts = make(map[id]int64), make(map[id][]until)
	}
	switch {
	case validID(r.Session):
		k := id([]byte(r.Session))
		have, known := s.sessions[k]
		if !known {
			s.count++
		}
		if !known || at < have {
			s.sessions[k] = at
		}
	case validID(r.Subject):
		k := id([]byte(r.Subject))
		have := s.accounts[k]
		with := addTo(have, until{r.Before(), at})
		s.count += len(with) - len(have)
		s.accounts[k] = with
	}
}

// addTo adds a revocation of an account to those there are. Each logout of everything takes back more tokens than the one before,
// but only as of later, and an event in between must stay what it was: so all of them are kept that are the earliest for
// any token, which makes a staircase with both members rising.
func addTo(steps []until, u until) []until {
	i, _ := slices.BinarySearchFunc(steps, u, func(a, b until) int { return cmp.Compare(a.before, b.before) })
	if i < len(steps) && steps[i].at <= u.at {
		return steps // it takes back no less, and no later
	}
	end := i // of those that u replaces
	if i < len(steps) && steps[i].before == u.before {
		end++
	}
	begin := i
	for begin > 0 && steps[begin-1].at >= u.at {
		begin--
	}
	return slices.Replace(steps, begin, end, u)
}

// Revoked implements Revocations.
func (s *RevocationSet) Revoked(subject, session string, issuedAt time.Time) (at time.Time, ok bool) {
	var micros int64
	iat := issuedAt.Unix()
	s.mu.RLock()
	if len(session) == idLength {
		micros, ok = s.sessions[id([]byte(session))]
	}
	if len(subject) == idLength {
		for _, u := range s.accounts[id([]byte(subject))] {
			if iat < u.before { // the first that fits is the earliest
				if !ok || u.at < micros {
					micros, ok = u.at, true
				}
				break
			}
		}
	}
	s.mu.RUnlock()
	if !ok {
		return time.Time{}, false
	}
	return time.UnixMicro(micros).UTC(), true
}

// CompleteAsOf implements Revocations.
func (s *RevocationSet) CompleteAsOf() time.Time {
	micros := s.complete.Load()
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// Complete says that every revocation with an At before asOf has been added. An earlier time than at the last call changes nothing.
func (s *RevocationSet) Complete(asOf time.Time) {
	micros := asOf.UnixMicro()
	for {
		have := s.complete.Load()
		if micros <= have || s.complete.CompareAndSwap(have, micros) {
			return
		}
	}
}

// Forget drops the revocations with an At before a time. Forget only what can matter no more: the tokens that they took back have
// run out, and so has the time for which events are kept that carry them.
func (s *RevocationSet) Forget(before time.Time) {
	limit := before.UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		return
	}
	for k, at := range s.sessions {
		if at < limit {
			delete(s.sessions, k)
			s.count--
		}
	}
	for k, steps := range s.accounts {
		kept := slices.DeleteFunc(steps, func(u until) bool { return u.at < limit })
		s.count -= len(steps) - len(kept)
		if len(kept) == 0 {
			delete(s.accounts, k)
		} else {
			s.accounts[k] = kept
		}
	}
}

// Len returns how many revocations the set holds.
func (s *RevocationSet) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.count
}

// errBehind is the cause of an ErrUndecided that more revocations, and not more keys, will decide.
var errBehind = errors.New("the revocations as of then are not all known")

// standing returns nil when a token had not been taken back at a moment.
//
// An event's verdict must be the same whenever it is asked for. So it is only given once no revocation can come to light that
// would change it, and a revocation touches what was stored later than EventLeeway after it, and nothing else. A request is
// refused as soon as its revocation is known here, and goes by what is known.
func (v *Verifier) standing(s *parsedToken, m instant) error {
	complete := v.revocations.CompleteAsOf() // before looking: what arrives in between makes the set only more complete
	at, revoked := v.revocations.Revoked(s.claims.Subject, s.claims.Session, s.claims.IssuedAt)
	behind := complete.IsZero() || complete.Before(m.at.Add(-EventLeeway))
	switch {
	case revoked && (!m.event || m.at.After(at.Add(EventLeeway))):
		return refuse(revokedToken, "it was taken back")
	case behind && m.event:
		return ErrUndecided.Saying("Whether the token was taken back is not known here yet. Please try again.").Because(errBehind)
	case behind:
		return ErrNoRevocations.Because(errBehind)
	}
	return nil
}
