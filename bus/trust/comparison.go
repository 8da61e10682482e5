package trust

import (
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// A KeyLife is the part of a key's life that verdicts depend on.
type KeyLife struct {
	ID          string    `json:"id"`
	Retired     time.Time `json:"retired,omitzero"`
	Compromised time.Time `json:"compromised,omitzero"`
}

// before returns the life as far as events stored up to t can tell it: a later retirement changes
// nothing about them.
func (k KeyLife) before(t time.Time) KeyLife {
	if !k.Retired.Before(t) {
		k.Retired = time.Time{}
	}
	if !k.Compromised.Before(t) {
		k.Compromised = time.Time{}
	}
	k.Retired, k.Compromised = k.Retired.UTC(), k.Compromised.UTC()
	return k
}

// KeyLives returns the known keys, or nil. An Epoch read afterwards counts all changes that these
// keys have made.
func (w *KeyWatch) KeyLives() []KeyLife {
	w.mu.Lock() // take changes the keys and the epoch under it
	defer w.mu.Unlock()
	set := w.known.Load().set
	if set == nil {
		return nil
	}
	var lives []KeyLife
	for _, k := range set.Keys() {
		lives = append(lives, KeyLife{k.ID, k.RetiredAt, k.CompromisedAt})
	}
	return lives
}

// KeyIDs returns the sorted IDs of the known keys.
func (w *KeyWatch) KeyIDs() []string { return KeyIDs(w.KeyLives()) }

// KeyIDs returns the sorted IDs of keys.
func KeyIDs(lives []KeyLife) []string {
	ids := []string{}
	for _, k := range lives {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return ids
}

// SameVerdicts reports whether two sets of keys give the same verdicts on the events stored up to
// latest: each key of the first set is in the second one with the same life until then. unknownKey
// says that a message was rejected for naming an unknown key; then the sets must have the same
// keys.
func SameVerdicts(then, now []KeyLife, latest time.Time, unknownKey bool) bool {
	if unknownKey && !slices.Equal(KeyIDs(then), KeyIDs(now)) {
		return false
	}
	for _, k := range then {
		i := slices.IndexFunc(now, func(n KeyLife) bool { return n.ID == k.ID })
		if i < 0 || k.before(latest) != now[i].before(latest) {
			return false
		}
	}
	return true
}

// OldRuleUntil returns the sequence of the ledger after which no event is verified by the old rule;
// nil while there is none. An Epoch read afterwards counts all changes that it has made.
func (w *KeyWatch) OldRuleUntil() *uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if set := w.known.Load().set; set != nil {
		if seq, closed := set.OldRuleUntil(); closed {
			return &seq
		}
	}
	return nil
}

// SameOldRule reports whether two ends of the old rule give the same verdicts on the messages up to
// last.
func SameOldRule(then, now *uint64, last uint64) bool {
	until := func(seq *uint64) uint64 {
		if seq == nil {
			return last
		}
		return min(*seq, last)
	}
	return until(then) == until(now)
}

// A BucketPosition is how far a bucket was known.
type BucketPosition struct {
	Created time.Time `json:"created"`
	Seq     uint64    `json:"seq"`
}

// Position returns how far the watch knows its bucket, and false where it has never known all of
// it. An Epoch read afterwards counts all changes that these revocations have made.
func (w *RevocationWatch) Position() (BucketPosition, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return BucketPosition{w.created, w.seen}, !w.heard.IsZero()
}

// ChangesVerdict reports whether a message of the revocations' bucket may concern events stored up
// to latest.
func (w *RevocationWatch) ChangesVerdict(m bus.Message, latest time.Time) bool {
	r, err := w.open(strings.TrimPrefix(m.Subject, w.bucket.Subject("")), m)
	if err != nil || r.At.IsZero() {
		return true // it is refused, or was deleted
	}
	return r.At.Add(token.EventLeeway).Before(latest)
}
