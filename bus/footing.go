package bus

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/example/pillion/token"
)

// A footing is what a board rests on besides the events that are on it: which ledger it was read from, and what of the past its verdicts
// depend upon. A board and its footing change together.
type footing struct {
	seq    uint64    // of the message that the board knows last; 0: none yet
	last   stored    // that message; its digest stands for the ledger up to it
	digest []byte    // of last, where that itself is not at hand
	latest time.Time // the latest time at which any message so far was stored
	// strangers are the keys that were known when a message was first refused because its key was not among them; nil: that has not
	// happened. It might be an event to whoever knows more keys.
	strangers []string
}

// add adds the verdict on a message. keys returns the keys that are known; nil: nobody wants to know.
func (f *footing) add(m stored, reason string, keys func() []string) {
	f.seq, f.last, f.digest = m.seq, m, nil
	if m.at.After(f.latest) {
		f.latest = m.at
	}
	if reason == reasonUnknownKey && f.strangers == nil && keys != nil {
		f.strangers = append([]string{}, keys()...)
	}
}

// reasonUnknownKey is the reason for a refusal that more keys might have prevented.
const reasonUnknownKey = "token_unknown_key"

// mark returns the digest of the last message.
func (f *footing) mark() []byte {
	if f.digest == nil {
		f.digest = f.last.digest()
	}
	return f.digest
}

// digest returns a hash of a message and of what the server says of it.
func (m stored) digest() []byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte(m.subject))
	part(binary.BigEndian.AppendUint64(nil, m.seq))
	part(binary.BigEndian.AppendUint64(nil, uint64(m.at.UnixNano())))
	for _, name := range slices.Sorted(maps.Keys(m.header)) {
		part([]byte(name))
		for _, v := range m.header[name] {
			part([]byte(v))
		}
		part(nil)
	}
	part(m.data)
	return h.Sum(nil)
}

// keyLife is what of a key's life verdicts depend upon.
type keyLife struct {
	ID          string    `json:"id"`
	Retired     time.Time `json:"retired,omitzero"`
	Compromised time.Time `json:"compromised,omitzero"`
}

// before returns what of it can be told from events that were stored up to a time: a key that is out of use as of later changes nothing
// about them.
func (k keyLife) before(t time.Time) keyLife {
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
func (w *KeyWatch) lives() []keyLife {
	w.mu.Lock() // so that not even a change is missed that take is about to announce
	defer w.mu.Unlock()
	set := w.known.Load().set
	if set == nil {
		return nil
	}
	var lives []keyLife
	for _, k := range set.Keys() {
		lives = append(lives, keyLife{k.ID, k.RetiredAt, k.CompromisedAt})
	}
	return lives
}

func (w *KeyWatch) ids() []string { return idsOf(w.lives()) }

func idsOf(lives []keyLife) []string {
	ids := []string{}
	for _, k := range lives {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return ids
}

// sameKeys reports whether verdicts on events that were stored up to a time are the same by two sets of keys: where each key of the first is
// in the second with what matters of its life, and no message was refused that a further one might have signed.
func sameKeys(then, now []keyLife, latest time.Time, strangers bool) bool {
	if strangers && !equalIDs(idsOf(then), now) {
		return false
	}
	for _, k := range then {
		i := slices.IndexFunc(now, func(n keyLife) bool { return n.ID == k.ID })
		if i < 0 || k.before(latest) != now[i].before(latest) {
			return false
		}
	}
	return true
}

// A bucketMark is how far a bucket was known.
type bucketMark struct {
	Created time.Time `json:"created"`
	Seq     uint64    `json:"seq"`
}

// mark returns how far the watch knows its bucket, and whether it does at all. Whoever looks at the version of the past afterwards finds
// counted what the revocations up to there have changed.
func (w *RevocationWatch) mark() (bucketMark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bucketMark{w.created, w.seen}, !w.heard.IsZero()
}

// changesVerdict reports whether a revocation, as it stands in the bucket, says anything about events that were stored up to a time.
func (b *Bucket) changesVerdict(m stored, latest time.Time) bool {
	r, err := b.revocation(m)
	if err != nil {
		return true // it is not what it was meant to be, or was deleted
	}
	return r.At.Add(token.EventLeeway).Before(latest)
}

func equalIDs(ids []string, lives []keyLife) bool { return slices.Equal(ids, idsOf(lives)) }
