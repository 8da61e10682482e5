package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/snapshot"
)

// rebuild reads the board again whenever the epoch has changed since it was judged, until ctx ends:
// then it is the board of a reader that starts now. The old board stays in use meanwhile.
func (f *Follower) rebuild(ctx context.Context, judged uint64) {
	for ctx.Err() == nil {
		select {
		case <-f.ledger.epoch.After(judged):
		case <-ctx.Done():
			return
		}
		p := bus.Retries(0)
		p.Notify = func(err error, wait time.Duration) {
			f.ledger.log.Warn("the board could not be rebuilt", "error", err, "retry_in", wait)
		}
		_ = p.Do(ctx, func() error {
			epoch, began := f.ledger.epoch.Version(), time.Now()
			if err := f.reread(ctx, epoch); err != nil {
				return err
			}
			judged = epoch
			f.ledger.metrics.rebuilds.Inc()
			f.ledger.log.Info("the board was rebuilt", "up_to", f.board.Seq(), "took", time.Since(began))
			return nil
		})
	}
}

// reread reads the whole ledger into a new board until that has caught up with the current one, and
// replaces the current one.
func (f *Follower) reread(ctx context.Context, epoch uint64) (err error) {
	ctx, span := f.ledger.conn.Tracer().Task(ctx, "rebuild the board")
	var read uint64
	defer func() { span.EndOf(read, err) }()
	stream, err := f.ledger.conn.Stream(ctx, bus.LedgerStream)
	if err != nil {
		return err
	}
	fresh, basis := board.New(), snapshot.Basis{}
	skipAged(fresh, stream.CachedInfo())
	if f.replace(fresh, &basis, epoch) {
		return nil
	}
	messages, err := f.ledger.conn.Read(ctx, stream, fresh.Seq()+1)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	err = f.prefetch(ctx, messages, func(b *batch) error {
		read += uint64(len(b.messages))
		for i := range b.messages {
			v := &b.messages[i]
			if undecided(v.err) {
				v.event, v.err = f.judge(ctx, v)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := f.put(fresh, &basis, v.m, v.event, v.err, false); err != nil {
				return err
			}
			if f.replace(fresh, &basis, epoch) {
				return errReplaced
			}
		}
		return nil
	})
	if errors.Is(err, errReplaced) {
		return nil
	}
	return err
}

// errReplaced ends the reading of a new board.
var errReplaced = errors.New("the board has been replaced")

// replace replaces the board by fresh, if that has caught up. No verdict can come in between. If
// the epoch has changed again meanwhile, another rebuild follows.
func (f *Follower) replace(fresh *board.Board, basis *snapshot.Basis, epoch uint64) bool {
	if fresh.Seq() < f.board.Seq() {
		return false
	}
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if fresh.Seq() < f.board.Seq() {
		return false
	}
	f.board.Become(fresh)
	f.basis, f.epoch = *basis, epoch
	f.recent.skip(f.board.Seq()) // what was verified before may be otherwise now
	return true
}
