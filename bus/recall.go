package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// UseSnapshots makes the follower start from a snapshot of the board where one fits, and make one now and then, together with
// the others that follow the ledger. Call it before Run. Without it the whole ledger is read at every start.
func (f *Follower) UseSnapshots(o SnapshotOptions) error {
	s, err := f.ledger.conn.snapshots(o)
	if err != nil {
		return err
	}
	f.snapshots = s
	f.keys = s.keys.ids
	return nil
}

// recall puts the latest snapshot on the board, if that is empty and the snapshot fits. Otherwise nothing is changed, and the ledger is read
// from its beginning.
func (f *Follower) recall(ctx context.Context, ledger *jetstream.StreamInfo) {
	s := f.snapshots
	if s == nil {
		return
	}
	began := time.Now()
	version := f.ledger.conn.past.version() // before anything is compared: what changes from here on is told
	x, err := s.latest(ctx)
	var board *board.Board
	if err == nil {
		err = s.fits(ctx, &x, ledger)
	}
	if err == nil {
		board, err = s.load(ctx, &x)
	}
	if err == nil && !f.install(board, &x, ledger, version) {
		err = errOtherPast
	}
	if ctx.Err() != nil {
		return
	}
	f.ledger.metrics.startedFrom(err)
	if err != nil {
		f.ledger.log.Info("the ledger is read from its beginning, without a snapshot", "because", reasonOf(err), "error", err)
		return
	}
	f.ledger.metrics.snapshot(&x)
	f.ledger.log.Info("the board starts from a snapshot", "up_to", x.Seq, "of", ledger.State.LastSeq, "bytes", x.Size, "took", time.Since(began))
}

// install makes the board what a snapshot says, unless it was judged by a later version of the past by now.
func (f *Follower) install(board *board.Board, x *snapshot, ledger *jetstream.StreamInfo, version uint64) bool {
	board.Forget(ledger.State.FirstSeq)
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if f.version > version || f.board.Seq() > board.Seq() {
		return false
	}
	f.board.Become(board)
	f.rests = footing{seq: x.Seq, digest: x.Message, latest: x.Latest}
	if x.Strangers {
		f.rests.strangers = idsOf(x.Keys)
	}
	return true
}

// keepSnapshots makes a snapshot whenever one is due, until ctx ends.
func (f *Follower) keepSnapshots(ctx context.Context) {
	s := f.snapshots
	if s == nil {
		return
	}
	tick := time.NewTicker(max(min(s.pause/2, 5*time.Second), time.Millisecond))
	defer tick.Stop()
	var known snapshot // the last that was seen
	fit := false       // whether it can be of use to anybody
	var failed time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if f.Ready(ctx) != nil || time.Since(failed) < s.pause || fit && !s.due(&known, f.board.Seq()) {
			continue
		}
		var err error
		if known, fit, err = f.snapshotIfDue(ctx); err != nil && ctx.Err() == nil {
			failed = time.Now() // and whatever it was, it is not tried again at once
			f.ledger.metrics.snapshots.WithLabelValues(resultOf(err)).Inc()
			f.ledger.log.Warn("no snapshot of the board was made", "error", err)
		}
	}
}

func resultOf(err error) string {
	if errors.Is(err, ErrStale) || errors.Is(err, board.ErrCaptureLost) {
		return "overtaken"
	}
	return "failed"
}

// due reports whether it is time for another snapshot after one that fits.
func (s *snapshots) due(x *snapshot, seq uint64) bool {
	age := time.Since(x.stored)
	return seq > x.Seq && age >= s.pause && (age >= s.every || seq-x.Seq >= s.events)
}

// replaceable reports whether it is time to replace one that is of no use. Where a newer program has made it, that may still be running,
// and goes on making them.
func (s *snapshots) replaceable(x *snapshot, err error) bool {
	age := time.Since(x.stored)
	if errors.Is(err, errOtherRules) && x.newer() {
		return age >= 2*s.every
	}
	return age >= s.pause
}

// snapshotIfDue looks which snapshot there is, and makes another if it is time. It returns the one that is there then, and whether it is
// of any use.
func (f *Follower) snapshotIfDue(ctx context.Context) (snapshot, bool, error) {
	s := f.snapshots
	was, err := s.latest(ctx)
	if errors.Is(err, errUnreachable) {
		return snapshot{}, false, err
	}
	ledger, streamErr := f.stream(ctx)
	if streamErr != nil {
		return snapshot{}, false, streamErr
	}
	if err == nil {
		err = s.fits(ctx, &was, ledger.CachedInfo())
	}
	if errors.Is(err, errUnreachable) {
		return snapshot{}, false, err
	}
	if err == nil {
		f.ledger.metrics.snapshot(&was)
	}
	if err == nil && !s.due(&was, f.board.Seq()) || err != nil && !errors.Is(err, errNoSnapshot) && !s.replaceable(&was, err) {
		return was, err == nil, nil
	}
	claim, ours, claimErr := s.claim(ctx)
	if claimErr != nil || !ours {
		return was, err == nil, claimErr
	}
	defer s.release(ctx, claim)
	made, ok, err := f.snapshot(ctx, was)
	if err != nil || !ok {
		return was, false, err
	}
	return made, true, nil
}

// snapshot makes a snapshot over was. It reports false where the board is not fit for that at the moment.
func (f *Follower) snapshot(ctx context.Context, was snapshot) (snapshot, bool, error) {
	began := time.Now()
	x, capture, ok := f.capture()
	if !ok {
		return snapshot{}, false, nil
	}
	defer capture.End()
	if !f.quarantine.flush(ctx) { // a reader that starts from the snapshot will not offer once more what was refused
		return snapshot{}, false, nil
	}
	if err := f.snapshots.store(ctx, capture, &x, was); err != nil {
		return snapshot{}, false, err
	}
	x.stored = time.Now()
	f.ledger.metrics.snapshot(&x)
	f.ledger.metrics.snapshots.WithLabelValues("made").Inc()
	f.ledger.log.Info("a snapshot of the board was made", "up_to", x.Seq, "bytes", x.Size, "took", time.Since(began))
	return x, true, nil
}

// capture begins to capture the board, together with what it rests on. It reports false where the two do not agree at the moment: where
// the past has changed, and the board is still to be read anew.
func (f *Follower) capture() (snapshot, *board.Capture, bool) {
	s := f.snapshots
	f.verdict.Lock()
	defer f.verdict.Unlock()
	x := snapshot{
		Version: snapshotVersion, Board: board.Version, ID: booking.NewID(),
		Ledger: f.created, Seq: f.rests.seq, Latest: f.rests.latest, Strangers: f.rests.strangers != nil,
	}
	var loaded bool
	x.Revocations, loaded = s.revocations.mark()
	x.Keys = s.keys.lives()
	if past := &f.ledger.conn.past; past.version() != f.version || !loaded || x.Keys == nil {
		return snapshot{}, nil, false
	}
	if f.rests.seq == 0 || f.rests.seq != f.board.Seq() {
		return snapshot{}, nil, false // what it knows last has aged unread
	}
	if x.Strangers && !equalIDs(f.rests.strangers, x.Keys) {
		f.ledger.log.Warn("a key has come that the board has refused messages for want of; it is read anew")
		f.ledger.conn.past.change()
		return snapshot{}, nil, false
	}
	x.Message = f.rests.mark()
	return x, f.board.Capture(), true
}
