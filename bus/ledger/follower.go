package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/quarantine"
	"github.com/example/pillion/bus/snapshot"
)

// A Follower reads the ledger in order, re-verifies every message, and feeds a board with those
// that pass. It never skips a message that it cannot judge yet, and never reorders: it waits in
// place. Rejected messages are counted, and recorded in the quarantine once. When the epoch
// changes, it rebuilds the board.
type Follower struct {
	ledger     *Ledger
	board      *board.Board
	quarantine *quarantine.Recorder
	target     atomic.Uint64 // the stream's last sequence when following began
	targeted   atomic.Bool

	stalled atomic.Bool // whether it waits for keys or revocations

	recent recent // what subscriptions get

	snapshots *snapshot.Store // nil: none are used
	keys      func() []string // IDs of the known keys; nil without snapshots

	verdict sync.Mutex     // held while a verdict goes onto the board; guards the rest
	epoch   uint64         // the least epoch of the board's verdicts
	basis   snapshot.Basis // what the board depends on
	created time.Time      // when the ledger was created; zero: it has not been seen yet

	behind sighting // of a leader that is behind the board; Run's own
	replay replay   // likewise
}

// Follow returns a follower that feeds board. Nothing else may feed it. Call Run.
// [Follower.Subscribe] hands on what the follower has verified.
func (l *Ledger) Follow(board *board.Board) *Follower {
	return &Follower{ledger: l, board: board, quarantine: quarantine.New(l.conn, l.conn.Registerer())}
}

// Ready returns nil once the board has reached what was the stream's last sequence when following
// began, and as long as NATS is connected. Errors: ErrNotCaughtUp, bus.ErrDown.
func (f *Follower) Ready(context.Context) error {
	if !f.ledger.conn.IsUp() {
		return bus.ErrDown
	}
	if !f.targeted.Load() || f.board.Seq() < f.target.Load() {
		return ErrNotCaughtUp
	}
	return nil
}

// Fit is Ready, and fails as well while the follower waits for keys or revocations: others may have
// them.
func (f *Follower) Fit(ctx context.Context) error {
	if f.stalled.Load() {
		return errStalled
	}
	return f.Ready(ctx)
}

var errStalled = errors.New("signing keys or revocations are missing")

// Board returns the board that the follower feeds.
func (f *Follower) Board() *board.Board { return f.board }

// Run follows the ledger until ctx ends, and then returns nil. It waits for NATS and for the
// stream, and resumes after every interruption. It returns an error only if the ledger is not the
// one that it has been reading: the board is wrong then, and the process should restart.
func (f *Follower) Run(ctx context.Context) error {
	epoch := f.ledger.epoch.Version()
	f.verdict.Lock()
	f.epoch = epoch
	f.verdict.Unlock()
	var work sync.WaitGroup
	work.Go(func() { f.quarantine.Run(ctx) })
	work.Go(func() { f.forget(ctx) })
	work.Go(func() { f.rebuild(ctx, epoch) })
	work.Go(func() { f.keepSnapshots(ctx) })
	defer work.Wait()

	p := bus.Retries(0)
	p.When = func(err error) bool { return !errors.Is(err, errOtherLedger) }
	p.Notify = func(err error, wait time.Duration) {
		f.ledger.log.Debug("ledger reader interrupted", "error", err, "after", f.board.Seq(), "retry_in", wait)
	}
	err := p.Keep(ctx, func(progress func()) error { return f.session(ctx, progress) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

var errOtherLedger = errors.New("the ledger is not the one that has been read, or ends before that: it was " +
	"replaced or has lost events; restart to read it again")

// errBehind says that the leader has not applied what another replica has shown. It may have just
// become the leader.
var errBehind = errors.New("the leader is behind what has been read")

// A sighting is the time over which every look has seen the same. Its zero value is none.
type sighting struct{ first, last time.Time }

// sightingGap is the longest time between two looks of one sighting.
const sightingGap = 3 * time.Second

// lost reports whether the leader has ended before the board's last message, for longer than a
// leader can be behind.
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
	return now.Sub(f.behind.first) >= bus.ReadPatience
}

// meet notes when the ledger was created. It reports whether this is the first look at it, and
// whether it is the same ledger as before.
func (f *Follower) meet(created time.Time) (first, same bool) {
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if f.created.IsZero() {
		f.created = created
		return true, true
	}
	return false, f.created.Equal(created)
}

// session reads from the board's position until something breaks.
func (f *Follower) session(ctx context.Context, progress func()) error {
	stream, err := f.ledger.conn.Stream(ctx, bus.LedgerStream)
	if err != nil {
		f.behind = sighting{}
		return err
	}
	// The leader says where the stream ends. A consumer's pending count would not do: a replica
	// that has just rejoined calls itself caught up in the middle.
	state := stream.CachedInfo().State
	first, same := f.meet(stream.CachedInfo().Created)
	if !same || f.lost(state.LastSeq) {
		return errOtherLedger
	}
	if state.LastSeq < f.board.Seq() {
		return errBehind
	}
	if first {
		f.loadSnapshot(ctx, stream.CachedInfo())
	}
	if !f.targeted.Load() {
		f.target.Store(state.LastSeq)
		f.targeted.Store(true)
		f.replay.begin(ctx, f)
	}
	if skipAged(f.board, stream.CachedInfo()) {
		f.recent.skip(f.board.Seq())
	}
	messages, err := f.ledger.conn.Read(ctx, stream, f.board.Seq()+1)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	return f.prefetch(ctx, messages, func(b *batch) error {
		for i := range b.messages {
			if err := f.take(ctx, &b.messages[i]); err != nil {
				return err
			}
		}
		f.ledger.metrics.lag.Set(float64(b.pending))
		f.replay.read(f, b)
		progress()
		return nil
	})
}

// skipAged moves a board past the messages that have aged out of the ledger, which are never
// delivered. It reports whether there are any.
func skipAged(board *board.Board, ledger *jetstream.StreamInfo) bool {
	aged := max(ledger.State.FirstSeq, 1) - 1
	if aged <= board.Seq() {
		return false
	}
	board.Advance(aged)
	return true
}

// forget removes what has aged out of the ledger from the board, so that an old board equals one
// that is read now, and from memory, so that nothing is decided on it.
func (f *Follower) forget(ctx context.Context) {
	tick := time.NewTicker(f.ledger.forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// else the next time
			if s, err := f.ledger.conn.Stream(ctx, bus.LedgerStream); err == nil {
				f.board.Forget(s.CachedInfo().State.FirstSeq)
				f.ledger.latest.Forget(s.CachedInfo().State.FirstSeq)
			}
		case <-ctx.Done():
			return
		}
	}
}

// take hands on the verdict on a message. It verifies the message again while the verdict is
// missing or of an earlier epoch. It returns only ctx's error, or one of a board that is broken.
func (f *Follower) take(ctx context.Context, v *verdict) error {
	for again := undecided(v.err); ; again = true {
		if again {
			v.epoch = f.ledger.epoch.Version()
			v.event, v.err = f.judge(ctx, v)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if done, err := f.hand(ctx, v); done || err != nil {
			return err
		}
	}
}

// hand puts a verdict on the board, unless the board knows the message already. It reports false
// for a verdict of an earlier epoch.
func (f *Follower) hand(ctx context.Context, v *verdict) (bool, error) {
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if v.m.Seq <= f.board.Seq() {
		return true, nil
	}
	if v.epoch < f.epoch {
		return false, nil
	}
	change, err := f.put(f.board, &f.basis, v.m, v.event, v.err, true)
	switch {
	case err != nil:
		return true, err
	case v.m.Seq <= f.target.Load(): // nobody acts yet
		f.recent.skip(v.m.Seq)
	default:
		if change != nil {
			f.ledger.latest.Add(v.epoch, change.Event, change.Before, change.After)
		}
		f.recent.add(change, v.m.Seq)
		f.passed(ctx, change, v.began)
	}
	return true, nil
}

// put puts the verdict on a message, an event or an error, on a board, and updates the board's
// basis. It returns the change, or nil if there is none.
func (f *Follower) put(
	board *board.Board, basis *snapshot.Basis, m bus.Message, e booking.Event, verdict error, counted bool,
) (*Change, error) {
	count := func(c *prometheus.CounterVec, label string) {
		if counted {
			c.WithLabelValues(label).Inc()
		}
	}
	metrics, err := f.ledger.metrics, verdict
	var change *Change
	if err == nil {
		change = &Change{Event: e}
		change.Before, change.After, err = board.Fold(e)
	}
	reason, refused := RefusalReason(err)
	switch {
	case errors.Is(err, errNoEvent):
		count(metrics.ignored, "engaged")
	case err == nil:
		count(metrics.verified, string(e.Kind))
	case refused:
		if p, ok := bus.ParseEventSubject(m.Subject); ok {
			board.Refuse(p.Booking, p.N, p.Kind, m.Seq)
			f.ledger.latest.Drop(p.Booking)
		}
		count(metrics.refused, reason)
		f.ledger.log.Warn("event refused", "sequence", m.Seq, "reason", reason)
		f.quarantine.Record(m.Seq, reason)
	case errors.Is(err, booking.ErrAged):
		count(metrics.ignored, "aged")
	default:
		return nil, fmt.Errorf("apply event %d: %w", m.Seq, err)
	}
	basis.Add(m, reason, f.keys)
	board.Advance(m.Seq)
	if err != nil { // it is no event
		change = nil
	}
	return change, nil
}

// judge verifies a message, and waits for missing keys or revocations.
func (f *Follower) judge(ctx context.Context, v *verdict) (booking.Event, error) {
	return AwaitVerdict(ctx, func() (booking.Event, error) { return f.ledger.verify.check(ctx, v.m, v.before) },
		func(err error, still bool) {
			if f.stalled.Store(still); !still {
				f.ledger.metrics.stalled.Set(0)
				return
			}
			f.ledger.metrics.stalled.Set(1)
			f.ledger.log.Warn("ledger reader waits for signing keys and revocations", "sequence", v.m.Seq, "error", err)
		})
}
