package ledger

import (
	"time"

	"github.com/example/pillion/bus"
)

// A snapshotBasis is what a board depends on besides its events: the ledger that it was read from,
// and the keys and revocations behind its verdicts. A board and its basis change together.
type snapshotBasis struct {
	seq    uint64      // of the last message; 0: none yet
	last   bus.Message // that message; its digest stands for the ledger up to it
	digest []byte      // of last, where only the digest is known
	latest time.Time   // the latest time at which any message was stored
	// unknownKeyIDs are the IDs of the keys that were known when a message was first rejected for
	// naming another key; nil: none was. With more keys it might be an event.
	unknownKeyIDs []string
}

// add adds the verdict on a message. keys returns the IDs of the known keys; nil without snapshots.
func (b *snapshotBasis) add(m bus.Message, reason string, keys func() []string) {
	b.seq, b.last, b.digest = m.Seq, m, nil
	if m.StoredAt.After(b.latest) {
		b.latest = m.StoredAt
	}
	if reason == reasonUnknownKey && b.unknownKeyIDs == nil && keys != nil {
		b.unknownKeyIDs = append([]string{}, keys()...)
	}
}

// reasonUnknownKey is the reason of a rejection that more keys might have prevented.
const reasonUnknownKey = "token_unknown_key"

// digestOfLast returns the digest of the last message.
func (b *snapshotBasis) digestOfLast() []byte {
	if b.digest == nil {
		b.digest = b.last.Digest()
	}
	return b.digest
}
