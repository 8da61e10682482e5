package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/booking/board"
)

// rebuild reads the board anew whenever the past has changed since the version that it is judged by, until ctx ends: then it is what a reader would have who starts now. The board
// that there is goes on being read and looked at meanwhile.
func (f *Follower) rebuild(ctx context.Context, judged uint64) {
	past := &f.ledger.conn.past
	pace := newBackOff()
	for {
		select {
		case <-past.after(judged):
		case <-ctx.Done():
			return
		}
		version, began := past.version(), time.Now()
		err := f.reread(ctx, version)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			judged = version
			pace.Reset()
			f.ledger.metrics.rebuilds.Inc()
			f.ledger.log.Info("the board has been read anew", "up_to", f.board.Seq(), "took", time.Since(began))
			continue
		}
		wait := pace.NextBackOff()
		f.ledger.log.Warn("the board could not be read anew", "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// reread reads the whole ledger into a new board until that knows as much as the one there is, and puts it in its place.
func (f *Follower) reread(ctx context.Context, version uint64) error {
	stream, err := f.stream(ctx)
	if err != nil {
		return err
	}
	fresh, rests := board.New(), footing{}
	fresh.Advance(max(stream.CachedInfo().State.FirstSeq, 1) - 1)
	messages, err := f.ledger.conn.read(ctx, stream, fresh.Seq()+1)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	if f.replace(fresh, &rests, version) {
		messages.close()
		return nil
	}
	err = f.ahead(ctx, messages, func(b *batch) error {
		for i := range b.messages {
			v := &b.messages[i]
			if v.undecided() {
				v.event, v.err = f.judge(ctx, v.m)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := f.put(fresh, &rests, v.m, v.event, v.err, false); err != nil {
				return err
			}
			if f.replace(fresh, &rests, version) {
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

// errReplaced ends the reading of a board anew.
var errReplaced = errors.New("the board has been replaced")

// replace makes the board what fresh is, if that knows as much. No verdict comes in between. Where the past has changed again
// meanwhile, it is read anew after this.
func (f *Follower) replace(fresh *board.Board, rests *footing, version uint64) bool {
	if fresh.Seq() < f.board.Seq() {
		return false
	}
	f.verdict.Lock()
	defer f.verdict.Unlock()
	if fresh.Seq() < f.board.Seq() {
		return false
	}
	f.board.Become(fresh)
	f.rests, f.version = *rests, version
	return true
}
