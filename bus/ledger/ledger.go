// Package ledger is the event store: booking.Log on JetStream, and the reader that re-verifies
// every event before anything acts on it.
//
// Begin with [Open]. [Ledger.Append] and [Ledger.Load] write and read the history of one booking;
// [Ledger.Follow] feeds a board.Board with all verified events in order.
//
// A message in the stream is a claim: the ledger checks the token that it carries as of the time
// when NATS stored it. Messages that fail are counted and recorded in the quarantine, never acted
// on. Who may publish at all is decided by NATS permissions (bus/access).
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/latest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
)

// Options are a Ledger's settings. Source and Tokens are required.
type Options struct {
	Source string        // the service that writes, as ce-source: "/usersvc"
	Tokens TokenVerifier // verifies what is read
	// Shown returns the sequence of the newest event of a booking that this process shows to
	// people, or 0: its board's LastSeq. A fresh read reaches at least there. nil: nothing is
	// shown.
	Shown func(booking.ID) uint64
	// Epoch is the one that the watches behind Tokens advance. nil: verdicts never change.
	Epoch *trust.Epoch
	Now   func() time.Time
	NewID func() string
	// Board tells how much room the open bookings still need; its owner feeds it. Without a board,
	// new bookings may use nine tenths of the ledger.
	Board *board.Board
	Disk  bus.Disk // under the ledger; nil: a server elsewhere looks after its disk
	// GroupFrom is the number of waiting commands from which they are stored in one batch; 0:
	// never. Use [GroupPays] where one server syncs each write, and [GroupBatches] where it syncs
	// later. Replicas share their syncs without it.
	GroupFrom int
	// Latest is what a follower in this process has verified. nil: a memory of the ledger's own.
	Latest *latest.Histories
	// ForgetEvery is how often a board drops what has aged out of the ledger; a minute by default.
	ForgetEvery time.Duration
}

// A Ledger is booking.Log on JetStream: appending an event is the state change, and there is no
// other. Neither the server nor the stream need exist when it is opened. Nothing needs closing.
type Ledger struct {
	conn     *bus.Conn
	js       jetstream.JetStream
	log      *slog.Logger
	metrics  *metrics
	epoch    *trust.Epoch
	batches  chan struct{} // holds a value for each batch in flight
	verify   verifier
	source   string
	now      func() time.Time
	newID    func() string
	appended atomic.Uint64 // the highest acknowledged sequence
	shown    func(booking.ID) uint64
	room     *room
	group    *group
	latest   *latest.Histories // fed by a follower, if there is one

	forgetEvery time.Duration
}

var _ booking.Log = (*Ledger)(nil)

// Open returns the ledger on c.
func Open(c *bus.Conn, o Options) (*Ledger, error) {
	if o.Tokens == nil || o.Source == "" {
		return nil, errors.New("open ledger: a source and a token verifier are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = booking.NewID
	}
	o.Epoch = cmp.Or(o.Epoch, new(trust.Epoch))
	if o.Shown == nil {
		o.Shown = func(booking.ID) uint64 { return 0 }
	}
	if o.ForgetEvery <= 0 {
		o.ForgetEvery = time.Minute
	}
	engaged, err := lru.New[uint64, struct{}](engagedKept)
	var latestErr error
	if o.Latest == nil {
		o.Latest, latestErr = latest.New(o.Epoch.Version)
	}
	if err := errors.Join(err, latestErr); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{
		conn: c, js: c.JetStream(), log: c.Log(), metrics: newMetrics(c.Registerer()), epoch: o.Epoch,
		batches: make(chan struct{}, maxBatches), verify: verifier{tokens: o.Tokens, engaged: engaged},
		source: o.Source, now: o.Now, newID: o.NewID, forgetEvery: o.ForgetEvery, shown: o.Shown,
		room:   &room{conn: c, board: o.Board, disk: o.Disk, now: o.Now, turn: make(chan struct{}, 1)},
		latest: o.Latest,
	}
	l.verify.at = l.storedAt
	l.group = newGroup(o.GroupFrom, l.publishOne, l.publishBatch)
	return l, nil
}

// Conn returns the connection of the ledger.
func (l *Ledger) Conn() *bus.Conn { return l.conn }

// Appended returns the highest sequence that this Ledger has appended. A board that has reached it
// includes the writes of this process.
func (l *Ledger) Appended() uint64 { return l.appended.Load() }

// LastSequence returns the sequence of the ledger's newest message, from its leader.
func (l *Ledger) LastSequence(ctx context.Context) (uint64, error) {
	last, err := l.conn.End(ctx, bus.LedgerStream)
	if err != nil {
		return 0, bus.Unavailable("ask for the last sequence", err)
	}
	return last, nil
}

// atomicMax makes v at least to.
func atomicMax(v *atomic.Uint64, to uint64) {
	for have := v.Load(); have < to && !v.CompareAndSwap(have, to); have = v.Load() {
	}
}
