package board

import (
	"sort"

	"github.com/example/pillion/booking"
)

// openLogSize is the number of changes in the log, in 96 KiB. At two hundred a second they cover
// ten seconds, in which a watcher can reconnect.
const openLogSize = 2048

// An openLog has the latest changes of the set of open bookings. All watchers share it, and a
// watcher that was away for a moment can resume from it.
type openLog struct {
	changes   []openChange // in the ledger's order; a ring buffer once it is full
	first     int          // index of the oldest change
	lostUntil uint64       // changes up to this sequence may be missing
}

// openChange is the entry of an OpenChange in the log.
type openChange struct {
	seq     uint64
	at      int64
	booking *record // the board may have dropped it since
	kind    uint8   // booking.Kind.Index
	trace   string  // booking.Event.Trace

	releases uint32 // how many riders had lost it by then
}

func (l *openLog) add(c openChange) {
	if len(l.changes) < openLogSize {
		l.changes = append(l.changes, c)
		return
	}
	l.lostUntil = l.changes[l.first].seq
	l.changes[l.first] = c
	l.first = (l.first + 1) % openLogSize
}

func (l *openLog) at(i int) *openChange { return &l.changes[(l.first+i)%len(l.changes)] }

// after returns the index of the first change after sequence seq.
func (l *openLog) after(seq uint64) int {
	return sort.Search(len(l.changes), func(i int) bool { return l.at(i).seq > seq })
}

// restarted returns the log after Become: no watch can resume from before sequence applied.
func (l *openLog) restarted(applied uint64) openLog {
	return openLog{changes: l.changes, first: l.first, lostUntil: max(l.lostUntil, applied)}
}

// note logs e if it changed the set of open bookings, and reports whether it did. No event leaves
// an open booking open.
func (c *contents) note(e *booking.Event, r *record, before stateCode) bool {
	c.applied = max(c.applied, e.Seq)
	if (before == openState) == (r.state == openState) {
		return false
	}
	c.changes.add(
		openChange{
			seq: e.Seq, at: nanos(e.When()), booking: r, kind: uint8(e.Kind.Index()), trace: e.Trace,
			releases: uint32(len(r.releases())),
		},
	)
	return true
}
