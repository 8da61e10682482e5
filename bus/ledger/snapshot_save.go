package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/snapshot"
	"github.com/example/pillion/bus/trust"
)

// keepSnapshots saves a snapshot whenever one is due, until ctx ends.
func (f *Follower) keepSnapshots(ctx context.Context) {
	s := f.snapshots
	if s == nil {
		return
	}
	tick := time.NewTicker(max(min(s.Pause/2, 5*time.Second), time.Millisecond))
	defer tick.Stop()
	var known snapshot.Snapshot // the last one that was seen
	fit := false                // whether it can be used
	var failed time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if f.Ready(ctx) != nil || time.Since(failed) < s.Pause || fit && !s.Due(&known, f.board.Seq()) {
			continue
		}
		var err error
		if known, fit, err = f.snapshotIfDue(ctx); err != nil && ctx.Err() == nil {
			failed = time.Now() // and pause before the next try
			f.ledger.metrics.snapshots.WithLabelValues(resultOf(err)).Inc()
			f.ledger.log.Warn("no snapshot of the board was made", "error", err)
		}
	}
}

func resultOf(err error) string {
	if errors.Is(err, bus.ErrStale) || errors.Is(err, board.ErrCaptureLost) {
		return "overtaken"
	}
	return "failed"
}

// snapshotIfDue saves a snapshot if one is due. It returns the latest one afterwards, and whether
// it can be used.
func (f *Follower) snapshotIfDue(ctx context.Context) (snapshot.Snapshot, bool, error) {
	s := f.snapshots
	was, err := s.Latest(ctx)
	if errors.Is(err, snapshot.ErrUnreachable) {
		return snapshot.Snapshot{}, false, err
	}
	ledger, streamErr := f.ledger.conn.Stream(ctx, bus.LedgerStream)
	if streamErr != nil {
		return snapshot.Snapshot{}, false, streamErr
	}
	if err == nil {
		err = s.Fits(ctx, &was, ledger.CachedInfo())
	}
	if errors.Is(err, snapshot.ErrUnreachable) {
		return snapshot.Snapshot{}, false, err
	}
	if err == nil {
		f.ledger.metrics.snapshot(&was)
	}
	if err == nil && !s.Due(&was, f.board.Seq()) || err != nil && !errors.Is(err, snapshot.ErrNone) &&
		!s.Replaceable(&was, err) {
		return was, err == nil, nil
	}
	claim, ours, claimErr := s.Claim(ctx)
	if claimErr != nil || !ours {
		return was, err == nil, claimErr
	}
	defer s.Release(ctx, claim)
	made, ok, err := f.saveSnapshot(ctx, was)
	if err != nil || !ok {
		return was, false, err
	}
	return made, true, nil
}

// saveSnapshot replaces was by a new snapshot. It reports false where the board cannot be captured
// at the moment.
func (f *Follower) saveSnapshot(ctx context.Context, was snapshot.Snapshot) (snapshot.Snapshot, bool, error) {
	began := time.Now()
	x, capture, ok := f.capture()
	if !ok {
		return snapshot.Snapshot{}, false, nil
	}
	defer capture.End()
	// a reader that starts from the snapshot does not record earlier rejections
	if !f.quarantine.Flush(ctx) {
		return snapshot.Snapshot{}, false, nil
	}
	if err := f.snapshots.Save(ctx, capture, &x, was); err != nil {
		return snapshot.Snapshot{}, false, err
	}
	x.StoredAt = time.Now()
	f.ledger.metrics.snapshot(&x)
	f.ledger.metrics.snapshots.WithLabelValues("made").Inc()
	f.ledger.log.Info("a snapshot of the board was made", "up_to", x.Seq, "bytes", x.Size, "took", time.Since(began))
	return x, true, nil
}

// capture begins to capture the board together with its basis. It reports false where the two do
// not agree at the moment: a new epoch has begun, and the board is about to be rebuilt.
func (f *Follower) capture() (snapshot.Snapshot, *board.Capture, bool) {
	s := f.snapshots
	f.verdict.Lock()
	defer f.verdict.Unlock()
	x := snapshot.Snapshot{
		Version: snapshot.Version, Board: board.Version, ID: booking.NewID(),
		Ledger: f.created, Seq: f.basis.Seq, Latest: f.basis.Latest, UnknownKey: f.basis.UnknownKeyIDs != nil,
	}
	var loaded bool
	x.Revocations, loaded = s.Revocations.Position()
	x.Keys, x.OldRuleUntil = s.Keys.KeyLives(), s.Keys.OldRuleUntil()
	if f.ledger.epoch.Version() != f.epoch || !loaded || x.Keys == nil {
		return snapshot.Snapshot{}, nil, false
	}
	if f.basis.Seq == 0 || f.basis.Seq != f.board.Seq() {
		return snapshot.Snapshot{}, nil, false // the last message has aged unread
	}
	if x.UnknownKey && !slices.Equal(f.basis.UnknownKeyIDs, trust.KeyIDs(x.Keys)) {
		f.ledger.log.Warn("a signing key has arrived for which the board has rejected messages; the board is rebuilt")
		f.ledger.epoch.Advance()
		return snapshot.Snapshot{}, nil, false
	}
	x.Message = f.basis.Digest()
	return x, f.board.Capture(), true
}
