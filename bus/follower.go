package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A Follower reads the ledger in its order, re-verifies every message, and feeds a board with what passes. It never skips what it
// cannot judge yet and never reorders: it stops in place until it can. What fails for good is counted, and recorded in the
// quarantine once. When the past changes, it reads the board anew.
type Follower struct {
	ledger     *Ledger
	board      *board.Board
	quarantine *quarantine
	target     atomic.Uint64 // the stream's last sequence when following began
	targeted   atomic.Bool

	snapshots *snapshots      // nil: none are used
	keys      func() []string // ids of the keys that are known; nil: nobody wants to know

	verdict sync.Mutex // held while a verdict is put on the board, and guards the rest
	version uint64     // of the past that the board was judged by, at least
	rests   footing    // what the board rests on
	created time.Time  // when the ledger was created that it is read from; zero: it has not been met yet

	behind sighting // of a leader that lacks what the board has. Only Run has it
}

// Follow returns a follower that feeds board, which must be fed by nobody else. Call Run.
func (l *Ledger) Follow(board *board.Board) *Follower {
	return &Follower{ledger: l, board: board, quarantine: newQuarantine(l.conn)}
}

// ErrNotCaughtUp says that the board has not yet reached the end that the ledger had when following began.
var ErrNotCaughtUp = fault.New(fault.Unavailable, "catching_up",
	"The list of bookings is still being read. Please try again in a moment.").After(time.Second)

// Ready returns nil once the board has reached the sequence that the stream had last when following began, and as long as NATS is
// connected.
func (f *Follower) Ready(context.Context) error {
	if !f.ledger.conn.link.is() {
		return errLinkDown
	}
	if !f.targeted.Load() || f.board.Seq() < f.target.Load() {
		return ErrNotCaughtUp
	}
	return nil
}

// Run follows the ledger until ctx ends, and then returns nil. It waits for NATS and for the stream, and resumes after every
// interruption where it stopped. It returns an error only if the ledger is not the one it has been reading: then the board is
// wrong and the process should start anew.
func (f *Follower) Run(ctx context.Context) error {
	version := f.ledger.conn.past.version() // that anything is judged by from here on
	f.verdict.Lock()
	f.version = version
	f.verdict.Unlock()
	var work sync.WaitGroup
	work.Go(func() { f.quarantine.run(ctx) })
	work.Go(func() { f.forget(ctx) })
	work.Go(func() { f.rebuild(ctx, version) })
	work.Go(func() { f.keepSnapshots(ctx) })
	defer work.Wait()

	pace := newBackOff()
	for {
		err := f.session(ctx, pace)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errOtherLedger) {
			return err
		}
		wait := pace.NextBackOff()
		f.ledger.log.Debug("ledger reader interrupted", "error", err, "after", f.board.Seq(), "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

var errOtherLedger = errors.New("the ledger is not the one that has been read, or ends before that: it was replaced or has lost events; restart to read it anew")

// errBehind is that the leader has not put in place yet what another replica has shown: it may have begun to lead this moment.
var errBehind = errors.New("the leader is behind what has been read")

// A sighting is the time over which something was seen at every look. Its zero value is none.
type sighting struct{ first, last time.Time }

// sightingGap is how far apart two looks may be for what both of them see to have been there in between.
const sightingGap = 3 * time.Second

// lost reports whether the leader has ended before what the board has, for longer than a leader can be behind.
func (f *Follower) lost(last uint64) bool {
	if last >= f.board.Seq() {
		f.behind = sighting{}
		return false
	}
	now := f.ledger.now()
	if now.Sub(f.behind.last) > sightingGap {
		f.behind.first = now
	}
	f.behind.last = now
	return now.Sub(f.behind.first) >= readPatience
}

// meet notes when the ledger was created that is read. It reports whether that is the first one, and whether it is the one there was before.
func (f *Follower) meet(created time.Time) (first, same bool) {
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if f.created.IsZero() {
		f.created = created
		return true, true
	}
	return false, f.created.Equal(created)
}

// session reads from where the board is until something breaks.
func (f *Follower) session(ctx context.Context, pace *backoff.ExponentialBackOff) error {
	stream, err := f.stream(ctx)
	if err != nil {
		f.behind = sighting{}
		return err
	}
	// The leader says where the stream ends. A consumer's pending count would not do: a replica that has just rejoined calls
	// itself caught up in the middle.
	state := stream.CachedInfo().State
	first, same := f.meet(stream.CachedInfo().Created)
	if !same || f.lost(state.LastSeq) {
		return errOtherLedger
	}
	if state.LastSeq < f.board.Seq() {
		return errBehind
	}
	if first {
		f.recall(ctx, stream.CachedInfo())
	}
	if !f.targeted.Load() {
		f.target.Store(state.LastSeq)
		f.targeted.Store(true)
	}
	// What has aged is never delivered, be it everything: there is nothing to wait for.
	if gone := max(state.FirstSeq, 1) - 1; gone > f.board.Seq() {
		f.board.Advance(gone)
	}
	messages, err := f.ledger.conn.read(ctx, stream, f.board.Seq()+1)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	return f.ahead(ctx, messages, func(b *batch) error {
		for i := range b.messages {
			if err := f.take(ctx, &b.messages[i]); err != nil {
				return err
			}
		}
		f.ledger.metrics.lag.Set(float64(b.pending))
		pace.Reset()
		return nil
	})
}

// forget takes off the board what has aged out of the ledger, so that a board that has lived long is the one that a reader would
// have who starts now.
func (f *Follower) forget(ctx context.Context) {
	tick := time.NewTicker(f.ledger.forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s, err := f.stream(ctx); err == nil { // else the next time
				f.board.Forget(s.CachedInfo().State.FirstSeq)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (f *Follower) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := f.ledger.conn.stream(ctx, LedgerStream)
	if err != nil {
		return nil, fmt.Errorf("look at ledger: %w", err)
	}
	return s, nil
}

// take hands on the verdict on a message, and judges it again as long as there is none, or one that is out of date. It returns only ctx's error:
// whatever else is in the way, it waits for.
func (f *Follower) take(ctx context.Context, v *verdict) error {
	past := &f.ledger.conn.past
	for again := v.undecided(); ; again = true {
		if again {
			v.version = past.version()
			v.event, v.err = f.judge(ctx, v.m)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if done, err := f.hand(v.m, v.event, v.err, v.version); done || err != nil {
			return err
		}
	}
}

// hand puts a verdict by some version of the past on the board, unless the board knows it already. It reports false for a verdict that
// is out of date.
func (f *Follower) hand(m stored, e booking.Event, verdict error, version uint64) (bool, error) {
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if m.seq <= f.board.Seq() {
		return true, nil
	}
	if version < f.version {
		return false, nil
	}
	return true, f.put(f.board, &f.rests, m, e, verdict, true)
}

// put puts the verdict on a message on a board: the event, or why it is none. What the board rests on changes with it.
func (f *Follower) put(board *board.Board, rests *footing, m stored, e booking.Event, verdict error, counted bool) error {
	count := func(c *prometheus.CounterVec, label string) {
		if counted {
			c.WithLabelValues(label).Inc()
		}
	}
	metrics, err := f.ledger.metrics, verdict
	if err == nil {
		err = board.Apply(e)
	}
	reason, refused := refusalOf(err)
	switch {
	case errors.Is(err, errNoEvent):
		count(metrics.ignored, "engaged")
	case err == nil:
		count(metrics.verified, string(e.Kind))
	case refused:
		if p, ok := parseSubject(m.subject); ok {
			board.Refuse(p.booking, p.n, p.kind, m.seq)
		}
		count(metrics.refused, reason)
		f.ledger.log.Warn("event refused", "sequence", m.seq, "reason", reason)
		f.quarantine.record(m.seq, reason)
	case errors.Is(err, booking.ErrAged):
		count(metrics.ignored, "aged")
	default:
		return fmt.Errorf("apply event %d: %w", m.seq, err)
	}
	rests.add(m, reason, f.keys)
	board.Advance(m.seq)
	return nil
}

// judge checks a message until there is a verdict: without the key that it needs, the reader waits in place.
func (f *Follower) judge(ctx context.Context, m stored) (booking.Event, error) {
	pace := newBackOff()
	for stalled := false; ; stalled = true {
		e, err := f.ledger.verify.check(ctx, m)
		if !errors.Is(err, token.ErrNoKeys) && !errors.Is(err, token.ErrUndecided) {
			if stalled {
				f.ledger.metrics.stalled.Set(0)
			}
			return e, err
		}
		if !stalled {
			f.ledger.metrics.stalled.Set(1)
			f.ledger.log.Warn("ledger reader waits for what it judges tokens by", "sequence", m.seq, "error", err)
		}
		select {
		case <-time.After(pace.NextBackOff()):
		case <-ctx.Done():
			return booking.Event{}, ctx.Err()
		}
	}
}
