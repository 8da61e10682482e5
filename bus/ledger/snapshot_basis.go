package ledger

import (
	"time"

	"github.com/example/pillion/bus"
)

// A footing is what a board rests on besides the events that are on it: which ledger it was read from, and what of the past its verdicts
// depend upon. A board and its footing change together.
type snapshotBasis struct {
	seq    uint64      // of the message that the board knows last; 0: none yet
	last   bus.Message // that message; its digest stands for the ledger up to it
	digest []byte      // of last, where that itself is not at hand
	latest time.Time   // the latest time at which any message so far was stored
	// strangers are the keys that were known when a message was first refused because its key was not among them; nil: that has not
	// happened. It might be an event to whoever knows more keys.
	unknownKeyIDs []string
}

// add adds the verdict on a message. keys returns the keys that are known; nil: nobody wants to know.
func (f *snapshotBasis) add(m bus.Message, reason string, keys func() []string) {
	f.seq, f.last, f.digest = m.Seq, m, nil
	if m.StoredAt.After(f.latest) {
		f.latest = m.StoredAt
	}
	if reason == reasonUnknownKey && f.unknownKeyIDs == nil && keys != nil {
		f.unknownKeyIDs = append([]string{}, keys()...)
	}
}

// reasonUnknownKey is the reason for a refusal that more keys might have prevented.
const reasonUnknownKey = "token_unknown_key"

// mark returns the digest of the last message.
func (f *snapshotBasis) digestOfLast() []byte {
	if f.digest == nil {
		f.digest = f.last.Digest()
	}
	return f.digest
}
