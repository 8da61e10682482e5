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

// Revocations are the tokens that were revoked. The methods do not block. The verifier calls them
// at each use of a token.
type Revocations interface {
	// Revoked returns the time as of which the tokens of a session or account that were issued at
	// issuedAt are revoked. ok is false if they are not. If several revocations apply, it returns
	// the earliest time.
	Revoked(subject, session string, issuedAt time.Time) (at time.Time, ok bool)
	// CompleteAsOf returns a time before which no revocation is missing: every one with an earlier
	// At is known. None with an earlier At will follow, except to change the past on purpose. The
	// time never goes back. It is zero until the revocations have been loaded.
	CompleteAsOf() time.Time
}

// A Revocation revokes the tokens of a session, or those of an account that were issued before a
// time.
//
// At is the time as of which the tokens are revoked, not the time at which the revocation is
// stored. Usually the two are the same. An operator who learns today that a phone was stolen on
// Sunday revokes as of Sunday, so that events stored since then are refused. At must not be in the
// future: that would refuse events later that are valid now.
type Revocation struct {
	Session string // sid; or else:
	Subject string // sub, the account
	// of an account: revokes tokens with an earlier iat; rounded up to whole seconds
	NotBefore time.Time
	At        time.Time // in whole microseconds
}

// Check returns ErrRevocation, with a cause, for an incomplete, contradictory or future revocation.
// At and NotBefore may be ahead of now by ClockLeeway.
func (r Revocation) Check(now time.Time) error {
	say := func(format string, args ...any) error { return ErrRevocation.Because(fmt.Errorf(format, args...)) }
	latest := now.Add(ClockLeeway)
	switch {
	case (r.Session == "") == (r.Subject == ""):
		return say("it must name either a session or an account")
	case r.Session != "" && !validID(r.Session):
		return say("its session is not 26 characters of base32")
	case r.Subject != "" && !validID(r.Subject):
		return say("its account is not 26 characters of base32")
	case r.Session != "" && !r.NotBefore.IsZero():
		return say("the revocation of a session has no NotBefore")
	case r.Subject != "" && r.NotBefore.Unix() <= 0:
		return say("the revocation of an account requires NotBefore")
	case r.NotBefore.After(latest):
		return say("its NotBefore is ahead by more than %v", ClockLeeway)
	case r.At.Unix() <= 0:
		return say("its At is missing")
	case r.At.After(latest):
		return say("its At is ahead by more than %v", ClockLeeway)
	}
	return nil
}

// Before returns NotBefore in seconds since 1970, rounded up. Tokens with an earlier iat are
// revoked. That includes all tokens of the second in which an account was revoked, because iat has
// no fractions.
func (r Revocation) Before() int64 {
	s := r.NotBefore.Unix()
	if r.NotBefore.Nanosecond() > 0 {
		s++
	}
	return s
}

// A RevocationSet holds revocations in memory. The zero value is empty and ready to use, and
// nothing is loaded yet. It is safe for concurrent use.
type RevocationSet struct {
	complete atomic.Int64 // microseconds since 1970; 0 until loaded

	mu       sync.RWMutex
	sessions map[id]int64   // At, in microseconds since 1970
	accounts map[id][]until // see addTo
	count    int
}

var _ Revocations = (*RevocationSet)(nil)

// An id is an identifier as a map key without a pointer, which keeps a large map cheap to
// garbage-collect.
type id [idLength]byte

// An until revokes the tokens of an account that were issued before a second, as of a microsecond.
type until struct{ before, at int64 }

// Add adds a revocation. Adding it again changes nothing. If two apply to a token, the earlier At
// counts. It ignores a revocation without a valid session or account.
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

// addTo adds a revocation of an account to others. A later one revokes more tokens, but as of a
// later time, and the verdict on events in between must not change. So addTo keeps every revocation
// that is the earliest for some token. Both members of the result rise.
func addTo(steps []until, u until) []until {
	i, _ := slices.BinarySearchFunc(steps, u, func(a, b until) int { return cmp.Compare(a.before, b.before) })
	if i < len(steps) && steps[i].at <= u.at {
		return steps // another one revokes at least as much, as early
	}
	end := i // of the steps that u replaces
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
			if iat < u.before { // the first that applies is the earliest
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

// Complete says that every revocation with an At before asOf has been added. It ignores an asOf
// earlier than that of an earlier call.
func (s *RevocationSet) Complete(asOf time.Time) {
	micros := asOf.UnixMicro()
	for {
		have := s.complete.Load()
		if micros <= have || s.complete.CompareAndSwap(have, micros) {
			return
		}
	}
}

// Forget drops the revocations with an At before a time. By then their tokens must have expired,
// and the events with those tokens must have been deleted.
func (s *RevocationSet) Forget(before time.Time) {
	limit := before.UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
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

// errBehind is the cause of an ErrUndecided that newer revocations will decide.
var errBehind = errors.New("the revocations are not known to be complete as of then")

// checkRevocations checks that a token was not revoked at m.
//
// An event must get the same verdict whenever it is verified. So there is none until no revocation
// can still appear that would change it. A revocation affects the events stored more than
// EventLeeway after its At. A request is checked against the revocations known now.
func (v *Verifier) checkRevocations(s *parsedToken, m verifyTime) error {
	// first: a concurrent Add makes the set more complete, not less
	complete := v.revocations.CompleteAsOf()
	at, revoked := v.revocations.Revoked(s.claims.Subject, s.claims.Session, s.claims.IssuedAt)
	behind := complete.IsZero() || complete.Before(m.at.Add(-EventLeeway))
	switch {
	case revoked && (!m.event || m.at.After(at.Add(EventLeeway))):
		return refuse(revokedToken, "it was revoked")
	case behind && m.event:
		return ErrUndecided.Saying("This server does not know yet whether the token was revoked. Please try again.").
			Because(errBehind)
	case behind:
		return ErrNoRevocations.Because(errBehind)
	}
	return nil
}
