package trust

import (
	"slices"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// keyLife is what of a key's life verdicts depend upon.
type KeyLife struct {
	ID          string    `json:"id"`
	Retired     time.Time `json:"retired,omitzero"`
	Compromised time.Time `json:"compromised,omitzero"`
}

// before returns what of it can be told from events that were stored up to a time: a key that is out of use as of later changes nothing
// about them.
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

// lives returns the keys that the watch knows, or nil. Whoever looks at the version of the past afterwards finds counted what they have changed.
func (w *KeyWatch) KeyLives() []KeyLife {
	w.mu.Lock() // so that not even a change is missed that take is about to announce
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

func (w *KeyWatch) KeyIDs() []string { return KeyIDs(w.KeyLives()) }

func KeyIDs(lives []KeyLife) []string {
	ids := []string{}
	for _, k := range lives {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return ids
}

// sameKeys reports whether verdicts on events that were stored up to a time are the same by two sets of keys: where each key of the first is
// in the second with what matters of its life, and no message was refused that a further one might have signed.
func SameVerdicts(then, now []KeyLife, latest time.Time, strangers bool) bool {
	if strangers && !EqualIDs(KeyIDs(then), now) {
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

// A bucketMark is how far a bucket was known.
type BucketPosition struct {
	Created time.Time `json:"created"`
	Seq     uint64    `json:"seq"`
}

// mark returns how far the watch knows its bucket, and whether it does at all. Whoever looks at the version of the past afterwards finds
// counted what the revocations up to there have changed.
func (w *RevocationWatch) Position() (BucketPosition, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return BucketPosition{w.created, w.seen}, !w.heard.IsZero()
}

// changesVerdict reports whether a revocation, as it stands in the bucket, says anything about events that were stored up to a time.
func ChangesVerdict(b *bus.Bucket, m bus.Message, latest time.Time) bool {
	r, err := parseRevocation(b, m)
	if err != nil {
		return true // it is not what it was meant to be, or was deleted
	}
	return r.At.Add(token.EventLeeway).Before(latest)
}

func EqualIDs(ids []string, lives []KeyLife) bool { return slices.Equal(ids, KeyIDs(lives)) }
