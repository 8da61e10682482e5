package token

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/example/pillion/internal/fault"
)

// The methods in this file return the next set in the life of its keys. Pass them the time of the
// store that keeps the set, not the local clock, so that all instances agree.

// RotationLead is how long a rotation is announced in advance. It covers the time until all
// verifiers and signers know of it, including a signer that is disconnected for a moment and whose
// clock differs by ClockLeeway.
const RotationLead = 10 * time.Second

// The errors of the steps.
var (
	ErrNoNextKey = fault.New(fault.Unavailable, "no_next_key",
		"There is no next key to take over. A running authsvc that can write to its key folder makes one. "+
			"Start one, and try again.").After(time.Second)
	ErrTooManyKeys = fault.New(fault.Conflict, "too_many_keys", fmt.Sprintf(
		"The key set is full: it keeps up to %d keys until the ledger has deleted the events that they signed. "+
			"Rotate less often.", MaxKeys))
	ErrUnknownKey = fault.New(fault.NotFound, "unknown_key", "There is no such key. List them with: authsvc keys list")
	ErrKeyIsNew   = fault.New(fault.Invalid, "as_of", "A key cannot be retired as of a time in the future.")
)

// FirstSet returns a set of one key, which is active from now on.
func FirstSet(k Key, now time.Time) (*KeySet, error) {
	return NewKeySet(Key{ID: k.ID, Public: k.Public, PublishedAt: now, ActiveFrom: now})
}

// WithNext returns the set with k as the next key. It returns the same set if it has a next key or
// k already. Errors: ErrTooManyKeys, and those of NewKeySet.
func (s *KeySet) WithNext(k Key, now time.Time) (*KeySet, error) {
	if _, there := s.Lookup(k.ID); there || s.next() >= 0 {
		return s, nil
	}
	if len(s.keys) >= MaxKeys {
		return nil, ErrTooManyKeys
	}
	return s.with(append(s.Keys(), Key{ID: k.ID, Public: k.Public, PublishedAt: now})...)
}

// HasNext reports whether the set has a next key whose ActiveFrom is undecided.
func (s *KeySet) HasNext() bool { return s.next() >= 0 }

// Rotate returns the set in which the next key takes over from the active one: RotationLead from
// now, or right after the last announced rotation, whichever is later. If no key is active, it
// takes over now. Errors: ErrNoNextKey.
func (s *KeySet) Rotate(now time.Time) (*KeySet, error) {
	i := s.next()
	if i < 0 {
		return nil, ErrNoNextKey
	}
	keys := s.Keys()
	last, ok := s.last()
	if !ok {
		keys[i].ActiveFrom = now
		return s.with(keys...)
	}
	from := now.Add(RotationLead)
	if earliest := keys[last].ActiveFrom.Add(time.Second); from.Before(earliest) {
		from = earliest
	}
	keys[i].ActiveFrom, keys[last].RetiredAt = from, from
	return s.with(keys...)
}

// Adopt returns the set in which k is active from now on and all other active and next keys retire
// now. It is for a signer that lacks the private half of the active key. It returns the same set if
// it has k already. Errors: those of WithNext.
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
	return s.with(append(keys, Key{ID: k.ID, Public: k.Public, PublishedAt: now, ActiveFrom: now})...)
}

// Retire returns the set in which the named keys are compromised as of a time, which must not be in
// the future. If the active key is one of them, the key that would take over first does so now. If
// there is none, no key is active until one is added. A compromised key keeps the earliest such
// time. Errors: ErrUnknownKey, ErrKeyIsNew.
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
	changed, err := s.with(keys...)
	if err != nil {
		return nil, err
	}
	return changed.succeed(now)
}

// closeGaps makes every key that retires in the future have a successor at that time. Without a
// successor, it does not retire.
func closeGaps(keys []Key, now time.Time) {
	for i := range keys {
		end := keys[i].RetiredAt
		if !end.After(now) || !keys[i].CompromisedAt.IsZero() {
			continue
		}
		if next := successor(keys, end); next >= 0 {
			keys[next].ActiveFrom = end
		} else {
			keys[i].RetiredAt = time.Time{}
		}
	}
}

// successor returns the index of the key that takes over first from a time on, or -1. Keys without
// an ActiveFrom come last.
func successor(keys []Key, from time.Time) int {
	next := -1
	for i, k := range keys {
		if !k.CompromisedAt.IsZero() || !k.waits() && k.ActiveFrom.Before(from) {
			continue
		}
		if next < 0 || !k.waits() && (keys[next].waits() || k.ActiveFrom.Before(keys[next].ActiveFrom)) {
			next = i
		}
	}
	return next
}

// succeed makes the key that would take over first active now, if no key is active.
func (s *KeySet) succeed(now time.Time) (*KeySet, error) {
	if _, ok := s.Active(now); ok {
		return s, nil
	}
	next := successor(s.keys, now)
	if next < 0 {
		return s, nil
	}
	keys := s.Keys()
	keys[next].ActiveFrom = now
	return s.with(keys...)
}

// Forget returns the set without the keys that stopped signing before a time. It returns the same
// set if there are none, or if no key would be left.
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
	return s.with(keys...)
}

// Published returns the set for readers that only verify tokens: without the compromised keys,
// because they do not know CompromisedAt, and without OldRuleUntil. It returns ErrKeySet if no key
// is left.
func (s *KeySet) Published() (*KeySet, error) {
	keys := slices.DeleteFunc(s.Keys(), func(k Key) bool { return !k.CompromisedAt.IsZero() })
	if len(keys) == len(s.keys) {
		if s.oldRuleUntil == nil {
			return s, nil
		}
		public := *s
		public.oldRuleUntil = nil
		return &public, nil
	}
	if len(keys) == 0 {
		return nil, ErrKeySet.Because(errors.New("all of its keys are compromised"))
	}
	return NewKeySet(keys...)
}

// next returns the index of the next key whose ActiveFrom is undecided, or -1.
func (s *KeySet) next() int {
	return slices.IndexFunc(s.keys, Key.waits)
}

// last returns the index of the key that is active after all announced rotations, and whether there
// is one.
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

// ChangesThePast reports whether the set, stored at a time, retires or compromises a key as of a
// time for which events may have been verified by the set before it, or ends the old rule earlier:
// events may have been verified by that since. before is nil for the first set.
func (s *KeySet) ChangesThePast(before *KeySet, stored time.Time) bool {
	if before == nil {
		return false
	}
	if until, closed := s.OldRuleUntil(); closed && before.CloseOldRule(until) != before {
		return true
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
