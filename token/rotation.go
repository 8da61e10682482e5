package token

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/example/pillion/internal/fault"
)

// The steps of a key's life, each from one set to another. They decide by the time they are given; whoever stores sets gives that of
// the store, so that all agree on it.

// RotationLead is how long before a key takes over that is said: long enough that everybody has heard of it, a signer that may go
// on for a while without hearing anything and whose clock differs by ClockLeeway included.
const RotationLead = 10 * time.Second

// What a step can be refused for.
var (
	ErrNoNextKey = fault.New(fault.Unavailable, "no_next_key",
		"There is no next key that could take over. A running authsvc that can write to its key folder makes one: see that there is one, and try again.").After(time.Second)
	ErrTooManyKeys = fault.New(fault.Conflict, "too_many_keys", fmt.Sprintf(
		"The key set is full: it keeps %d keys until the ledger has no event that they signed. Rotate less often.", MaxKeys))
	ErrUnknownKey = fault.New(fault.NotFound, "unknown_key", "There is no such key. List them with: authsvc keys list")
	ErrKeyIsNew   = fault.New(fault.Invalid, "as_of", "A key cannot be retired as of a time that is still to come.")
)

// FirstSet returns the set in which k is the only key, active from now on.
func FirstSet(k Key, now time.Time) (*KeySet, error) {
	return NewKeySet(Key{ID: k.ID, Public: k.Public, PublishedAt: now, ActiveFrom: now})
}

// WithNext returns the set with k published as the next key. It returns the same set where there is a next key already, or k is in
// it. Errors: ErrTooManyKeys, and those of NewKeySet.
func (s *KeySet) WithNext(k Key, now time.Time) (*KeySet, error) {
	if _, there := s.Lookup(k.ID); there || s.next() >= 0 {
		return s, nil
	}
	if len(s.keys) >= MaxKeys {
		return nil, ErrTooManyKeys
	}
	return NewKeySet(append(s.Keys(), Key{ID: k.ID, Public: k.Public, PublishedAt: now})...)
}

// HasNext reports whether there is a key that waits to take over.
func (s *KeySet) HasNext() bool { return s.next() >= 0 }

// Rotate returns the set in which the next key takes over from the active one, RotationLead from now or right after the last rotation
// that has been said, whichever is later. Where nobody signs it takes over now. Errors: ErrNoNextKey.
func (s *KeySet) Rotate(now time.Time) (*KeySet, error) {
	i := s.next()
	if i < 0 {
		return nil, ErrNoNextKey
	}
	keys := s.Keys()
	last, ok := s.last()
	if !ok {
		keys[i].ActiveFrom = now
		return NewKeySet(keys...)
	}
	from := now.Add(RotationLead)
	if earliest := keys[last].ActiveFrom.Add(time.Second); from.Before(earliest) {
		from = earliest
	}
	keys[i].ActiveFrom, keys[last].RetiredAt = from, from
	return NewKeySet(keys...)
}

// Adopt returns the set in which k, whose private half somebody has who lacks that of the active key, is active from now on. All others
// that have not retired do so now. It returns the same set where k is in it. Errors: those of WithNext.
func (s *KeySet) Adopt(k Key, now time.Time) (*KeySet, error) {
	if _, there := s.Lookup(k.ID); there {
		return s, nil
	}
	if len(s.keys) >= MaxKeys {
		return nil, ErrTooManyKeys
	}
	keys := s.Keys()
	for i := range keys {
		if stage := keys[i].Stage(now); stage == Active || stage == Next {
			keys[i].RetiredAt = now
		}
	}
	return NewKeySet(append(keys, Key{ID: k.ID, Public: k.Public, PublishedAt: now, ActiveFrom: now})...)
}

// Retire returns the set in which the named keys are compromised as of a time, which may not be still to come. Where the active key is
// one of them, the one that was to take over soonest does so now; where there is none, nobody signs until there is. A
// key that is compromised already only ever becomes so as of earlier. Errors: ErrUnknownKey, ErrKeyIsNew.
func (s *KeySet) Retire(now, asOf time.Time, kids ...string) (*KeySet, error) {
	if asOf.After(now.Add(ClockLeeway)) {
		return nil, ErrKeyIsNew
	}
	keys := s.Keys()
	for _, kid := range kids {
		i, ok := s.byID[kid]
		if !ok {
			return nil, ErrUnknownKey.Because(fmt.Errorf("%q is not in the set", kid))
		}
		if k := &keys[i]; k.CompromisedAt.IsZero() || asOf.Before(k.CompromisedAt) {
			k.CompromisedAt = asOf
		}
	}
	closeGaps(keys, now)
	changed, err := NewKeySet(keys...)
	if err != nil {
		return nil, err
	}
	return changed.succeed(now)
}

// closeGaps sees to it that for every key that is still to retire there is one that takes over from it then: the one that was to do so
// next, or else it does not retire.
func closeGaps(keys []Key, now time.Time) {
	for i := range keys {
		end := keys[i].RetiredAt
		if !end.After(now) || !keys[i].CompromisedAt.IsZero() {
			continue
		}
		if heir := heirOf(keys, end); heir >= 0 {
			keys[heir].ActiveFrom = end
		} else {
			keys[i].RetiredAt = time.Time{}
		}
	}
}

// heirOf returns the index of the key that is to take over soonest from a time on, or -1. One whose time is set comes before one whose
// time is not.
func heirOf(keys []Key, from time.Time) int {
	heir := -1
	for i, k := range keys {
		if !k.CompromisedAt.IsZero() || !k.waits() && k.ActiveFrom.Before(from) {
			continue
		}
		if heir < 0 || !k.waits() && (keys[heir].waits() || k.ActiveFrom.Before(keys[heir].ActiveFrom)) {
			heir = i
		}
	}
	return heir
}

// succeed lets the key take over now that was to do so soonest, if nobody signs.
func (s *KeySet) succeed(now time.Time) (*KeySet, error) {
	if _, ok := s.Active(now); ok {
		return s, nil
	}
	heir := heirOf(s.keys, now)
	if heir < 0 {
		return s, nil
	}
	keys := s.Keys()
	keys[heir].ActiveFrom = now
	return NewKeySet(keys...)
}

// Forget returns the set without the keys that have not signed since a time. It returns the same set where there is none.
func (s *KeySet) Forget(before time.Time) (*KeySet, error) {
	keys := slices.DeleteFunc(s.Keys(), func(k Key) bool {
		end := k.RetiredAt
		if c := k.CompromisedAt; !c.IsZero() && (end.IsZero() || c.After(end)) {
			end = c
		}
		return !end.IsZero() && end.Before(before)
	})
	if len(keys) == len(s.keys) || len(keys) == 0 {
		return s, nil
	}
	return NewKeySet(keys...)
}

// Published returns the set as those get it who know nothing of CompromisedAt: without the keys that are compromised. It answers
// ErrKeySet where nothing is left.
func (s *KeySet) Published() (*KeySet, error) {
	keys := slices.DeleteFunc(s.Keys(), func(k Key) bool { return !k.CompromisedAt.IsZero() })
	if len(keys) == len(s.keys) {
		return s, nil
	}
	if len(keys) == 0 {
		return nil, ErrKeySet.Because(errors.New("all of its keys are compromised"))
	}
	return NewKeySet(keys...)
}

// next returns the index of the key that waits for its time to be set, or -1.
func (s *KeySet) next() int {
	return slices.IndexFunc(s.keys, Key.waits)
}

// last returns the index of the key that signs once all that has been said has come to pass, and whether there is one.
func (s *KeySet) last() (int, bool) {
	last := -1
	for i, k := range s.keys {
		if k.waits() || !k.RetiredAt.IsZero() || !k.CompromisedAt.IsZero() {
			continue
		}
		if last < 0 || k.ActiveFrom.After(s.keys[last].ActiveFrom) {
			last = i
		}
	}
	return last, last >= 0
}

// ChangesThePast reports whether the set, stored at a time, says of a key that it was compromised, or retired, at a time for which events
// may have been judged by the set before it. All of the sets before it came earlier; a nil one is none.
func (s *KeySet) ChangesThePast(before *KeySet, stored time.Time) bool {
	if before == nil {
		return false
	}
	settled := stored.Add(-ChangeDelay)
	earlier := func(was, is time.Time) bool {
		return !is.IsZero() && is.Before(settled) && (was.IsZero() || is.Before(was))
	}
	for _, k := range s.keys {
		was, ok := before.Lookup(k.ID)
		if ok && (earlier(was.RetiredAt, k.RetiredAt) || earlier(was.CompromisedAt, k.CompromisedAt)) {
			return true
		}
	}
	return false
}
