// Package bookingtest supports tests of bookings: a [Log] in memory, a [Ledger] with a board behind
// it, [LogSuite], the tests that every booking.Log must pass, and [CheckCalls], which checks that
// recorded calls are linearizable. Only tests import it.
package bookingtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// A Log is a booking.Log in memory, with the semantics of the real one. The booking's revision
// guards appends. A stored message occupies its position for good, even if readers refuse it. Quick
// reads may be stale. It is safe for concurrent use, and needs no closing.
type Log struct {
	now     func() time.Time
	lag     uint64
	lostAck func() bool

	mu       sync.Mutex
	seq      uint64
	messages map[booking.ID][]message
	engaged  map[booking.RiderID][]booking.Engagement // in order
	had      map[engagement]bool                      // all engagements so far
}

// An engagement is a rider with a booking.
type engagement struct {
	rider booking.RiderID
	id    booking.ID
}

var _ booking.Log = (*Log)(nil)

// A message is stored at one position of a booking.
type message struct {
	seq   uint64
	n     int
	kind  booking.Kind
	event booking.Event // zero for a forgery
	valid bool          // its token verifies; the event need not follow
}

// An Option changes how a Log behaves.
type Option func(*Log)

// WithClock sets the clock that stamps stored events.
func WithClock(now func() time.Time) Option { return func(l *Log) { l.now = now } }

// WithStaleReads makes Quick reads miss the last n messages of the log.
func WithStaleReads(n uint64) Option { return func(l *Log) { l.lag = n } }

// WithLostAcks makes Append store the events but return ErrAckLost whenever lost returns true. The
// log calls lost once for each stored append, one call at a time.
func WithLostAcks(lost func() bool) Option { return func(l *Log) { l.lostAck = lost } }

// Errors for an unknown outcome.
var (
	ErrAckLost = fault.New(fault.Unavailable, "ack_lost", "The answer was lost on its way. Please try again.").
			After(time.Second)
	ErrAway = fault.New(fault.Unavailable, "log_away", "The log was not asked in time. Please try again.").
		After(time.Second)
)

// NewLog returns an empty Log.
func NewLog(options ...Option) *Log {
	l := &Log{
		now: time.Now, lostAck: func() bool { return false }, messages: make(map[booking.ID][]message),
		engaged: make(map[booking.RiderID][]booking.Engagement), had: make(map[engagement]bool),
	}
	for _, o := range options {
		o(l)
	}
	return l
}

// Load implements booking.Log. Errors: ErrAway if ctx has ended.
func (l *Log) Load(ctx context.Context, id booking.ID, r booking.Reading) (booking.History, error) {
	if err := ctx.Err(); err != nil {
		return booking.History{}, ErrAway.Because(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.known(r)
	var h booking.History
	for _, m := range l.messages[id] {
		if m.seq > known {
			break
		}
		h.Revision = m.seq
		if !m.valid {
			h.Refuse(m.n, m.kind, m.seq)
			continue
		}
		e := separate(m.event)
		if err := h.Apply(e); err != nil {
			h.Refuse(m.n, m.kind, m.seq) // no effect on an aged history
			continue
		}
		h.Events = append(h.Events, e)
	}
	return h, nil
}

// Append implements booking.Log. Errors: booking.ErrMoved, booking.ErrDoesNotFollow,
// ErrAway if ctx has ended, ErrAckLost.
func (l *Log) Append(
	ctx context.Context,
	c booking.Command,
	id booking.ID,
	after booking.History,
	events ...booking.Event,
) (booking.History, error) {
	if len(events) == 0 {
		return after, nil
	}
	if err := ctx.Err(); err != nil {
		return booking.History{}, ErrAway.Because(err)
	}
	if slices.ContainsFunc(events, func(e booking.Event) bool { return e.Kind == booking.Accepted }) {
		return booking.History{}, booking.ErrNotEngaged
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.append(c, id, after, events)
	if err == nil && l.lostAck() {
		return booking.History{}, ErrAckLost
	}
	return h, err
}

// Engagement implements booking.Log. Errors: ErrAway if ctx has ended.
func (l *Log) Engagement(ctx context.Context, rider booking.RiderID, r booking.Reading) (booking.Engagement, error) {
	if err := ctx.Err(); err != nil {
		return booking.Engagement{}, ErrAway.Because(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engagement(rider, l.known(r)), nil
}

// known returns the last sequence that a reading knows. The caller holds the lock.
func (l *Log) known(r booking.Reading) uint64 {
	if r == booking.Quick {
		return l.seq - min(l.lag, l.seq)
	}
	return l.seq
}

// engagement returns a rider's engagement up to a sequence. The caller holds the lock.
func (l *Log) engagement(rider booking.RiderID, known uint64) booking.Engagement {
	for _, at := range slices.Backward(l.engaged[rider]) {
		if at.Revision < known { // the acceptance comes after its record
			return at
		}
	}
	return booking.Engagement{}
}

// Engage implements booking.Log. Errors: those of Append, booking.ErrNotForYou.
func (l *Log) Engage(
	ctx context.Context,
	c booking.Command,
	id booking.ID,
	after booking.History,
	at booking.Engagement,
	accepted booking.Event,
) (booking.History, error) {
	if err := ctx.Err(); err != nil {
		return booking.History{}, ErrAway.Because(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := engagement{booking.RiderID(accepted.Actor.ID), id}
	if l.last(id) != after.Revision || l.engagement(of.rider, l.seq) != at {
		return booking.History{}, booking.ErrMoved
	}
	if l.had[of] {
		return booking.History{}, booking.ErrNotForYou
	}
	l.seq++ // the rider's record comes first
	h, err := l.append(c, id, after, []booking.Event{accepted})
	if err != nil {
		l.seq--
		return h, err
	}
	l.engaged[of.rider] = append(l.engaged[of.rider], booking.Engagement{Booking: id, Revision: l.seq - 1})
	l.had[of] = true
	if l.lostAck() {
		return booking.History{}, ErrAckLost
	}
	return h, nil
}

// last returns the sequence of a booking's last message, or 0. The caller holds the lock.
func (l *Log) last(id booking.ID) uint64 {
	stored := l.messages[id]
	if len(stored) == 0 {
		return 0
	}
	return stored[len(stored)-1].seq
}

// append stores events. The caller holds the lock.
func (l *Log) append(
	c booking.Command,
	id booking.ID,
	after booking.History,
	events []booking.Event,
) (booking.History, error) {
	stored := l.messages[id]
	if l.last(id) != after.Revision {
		return booking.History{}, booking.ErrMoved
	}
	next, now := after.Clone(), l.now()
	var added []message
	for i, e := range events {
		e = separate(e)
		e.ID, e.Booking, e.Command, e.Request = booking.EventID(booking.NewID()), id, c.ID, c.Request
		e.N, e.Seq, e.Decided, e.At = next.Next(e.Kind), l.seq+1+uint64(i), now, now
		if err := next.Apply(e); err != nil {
			return booking.History{}, fmt.Errorf("append %s to booking %s: %w", e.Kind, id, err)
		}
		if taken(stored, e.N, e.Kind) {
			return booking.History{}, booking.ErrMoved
		}
		next.Events = append(next.Events, e)
		added = append(added, message{seq: e.Seq, n: e.N, kind: e.Kind, event: separate(e), valid: true})
	}
	l.messages[id] = append(stored, added...)
	l.seq += uint64(len(added))
	next.Revision = l.seq
	return next, nil
}

// Forge stores a message that every reader refuses, such as one without a token. It returns an
// error if the position is occupied.
func (l *Log) Forge(ctx context.Context, id booking.ID, n int, k booking.Kind) error {
	return l.store(ctx, id, message{n: n, kind: k})
}

// Publish stores an event without any checks, as a client with a valid token and access to the
// ledger could. The log sets only Seq and At. It returns an error if the position is occupied.
func (l *Log) Publish(ctx context.Context, e booking.Event) error {
	return l.store(ctx, e.Booking, message{n: e.N, kind: e.Kind, event: separate(e), valid: true})
}

func (l *Log) store(ctx context.Context, id booking.ID, m message) error {
	if err := ctx.Err(); err != nil {
		return ErrAway.Because(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if taken(l.messages[id], m.n, m.kind) {
		return fmt.Errorf("position %d.%s of booking %s is occupied", m.n, m.kind, id)
	}
	l.seq++
	m.seq, m.event.Seq, m.event.At = l.seq, l.seq, l.now()
	l.messages[id] = append(l.messages[id], m)
	return nil
}

// Age drops the first n messages of a booking, like the ledger's age limit.
func (l *Log) Age(id booking.ID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages[id] = slices.Clone(l.messages[id][n:])
}

func taken(stored []message, n int, k booking.Kind) bool {
	return slices.ContainsFunc(stored, func(m message) bool { return m.n == n && m.kind == k })
}

// separate returns a copy of e that shares no memory with it.
func separate(e booking.Event) booking.Event {
	if e.Quote != nil {
		q := *e.Quote
		e.Quote = &q
	}
	for _, p := range []**booking.Place{&e.Pickup, &e.Dropoff} {
		if *p != nil {
			c := **p
			*p = &c
		}
	}
	return e
}
