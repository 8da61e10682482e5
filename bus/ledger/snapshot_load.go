package ledger

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/snapshot"
)

// UseSnapshots makes the follower start from a snapshot of the board where one fits, and save one
// now and then, in turn with the other followers of the ledger. Call it before Run. Without it
// every start reads the whole ledger.
func (f *Follower) UseSnapshots(o snapshot.Options) error {
	s, err := snapshot.NewStore(f.ledger.conn, o)
	if err != nil {
		return err
	}
	f.snapshots = s
	f.keys = s.Keys.KeyIDs
	return nil
}

// loadSnapshot makes the latest snapshot the board, if the board is empty and the snapshot fits.
// Otherwise it changes nothing, and the ledger is read from its beginning.
func (f *Follower) loadSnapshot(ctx context.Context, ledger *jetstream.StreamInfo) {
	s := f.snapshots
	if s == nil {
		return
	}
	began := time.Now()
	epoch := f.ledger.epoch.Version() // read before anything is compared: later changes advance it
	x, err := s.Latest(ctx)
	var board *board.Board
	if err == nil {
		err = s.Fits(ctx, &x, ledger)
	}
	if err == nil {
		board, err = s.Load(ctx, &x)
	}
	if err == nil && !f.install(board, &x, ledger, epoch) {
		err = snapshot.ErrOtherPast
	}
	if ctx.Err() != nil {
		return
	}
	f.ledger.metrics.startedFrom(err)
	if err != nil {
		f.ledger.log.Info("the ledger is read from its beginning, without a snapshot", "because", snapshot.Reason(err),
			"error", err)
		return
	}
	f.ledger.metrics.snapshot(&x)
	f.ledger.log.Info("the board starts from a snapshot", "up_to", x.Seq, "of", ledger.State.LastSeq, "bytes", x.Size,
		"took", time.Since(began))
}

// install makes a snapshot the board, unless a later epoch has begun meanwhile.
func (f *Follower) install(board *board.Board, x *snapshot.Snapshot, ledger *jetstream.StreamInfo, epoch uint64) bool {
	board.Forget(ledger.State.FirstSeq)
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if f.epoch > epoch || f.board.Seq() > board.Seq() {
		return false
	}
	f.board.Become(board)
	f.recent.skip(f.board.Seq())
	f.basis = x.Basis()
	return true
}
