package snapshot

import (
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
)

// A Basis is what a board depends on besides its events: the ledger that it was read from, and the
// keys and revocations behind its verdicts. A board and its basis change together.
type Basis struct {
	Seq    uint64      // of the last message; 0: none yet
	Latest time.Time   // the latest time at which any message was stored
	last   bus.Message // the last message; its digest stands for the ledger up to it
	digest []byte      // of last, where only the digest is known
	// UnknownKeyIDs are the IDs of the keys that were known when a message was first rejected for
	// naming another key; nil: none was. With more keys it might be an event.
	UnknownKeyIDs []string
}

// Add adds the verdict on a message. keys returns the IDs of the known keys; nil without snapshots.
func (b *Basis) Add(m bus.Message, reason string, keys func() []string) {
	b.Seq, b.last, b.digest = m.Seq, m, nil
	if m.StoredAt.After(b.Latest) {
		b.Latest = m.StoredAt
	}
	if reason == reasonUnknownKey && b.UnknownKeyIDs == nil && keys != nil {
		b.UnknownKeyIDs = append([]string{}, keys()...)
	}
}

// reasonUnknownKey is the reason of a rejection that more keys might have prevented.
const reasonUnknownKey = "token_unknown_key"

// Digest returns the digest of the last message.
func (b *Basis) Digest() []byte {
	if b.digest == nil {
		b.digest = b.last.Digest()
	}
	return b.digest
}

// Basis returns the basis of the board in a snapshot.
func (x *Snapshot) Basis() Basis {
	b := Basis{Seq: x.Seq, digest: x.Message, Latest: x.Latest}
	if x.UnknownKey {
		b.UnknownKeyIDs = trust.KeyIDs(x.Keys)
	}
	return b
}
