package bus

import (
	"context"
	"time"
)

// room is what the ledger's size was when it was last asked for.
type room struct {
	asked time.Time
	err   error
}

const (
	roomFresh   = time.Second // how long an answer about the ledger's size holds
	roomPercent = 90          // of the size, for new bookings: the rest is for rides under way
)

// Roomy returns ErrLedgerFull when the ledger is so full that new bookings must wait, so that rides under way can always be
// finished. The answer is up to a second old. When the size cannot be learnt it returns nil: the append itself will tell.
func (l *Ledger) Roomy(ctx context.Context) error {
	if r := l.room.Load(); r != nil && l.now().Sub(r.asked) < roomFresh {
		return r.err
	}
	if !l.roomMu.TryLock() { // somebody is asking; the old answer will do
		if r := l.room.Load(); r != nil {
			return r.err
		}
		return nil
	}
	defer l.roomMu.Unlock()
	used, size, err := l.size(ctx)
	r := &room{asked: l.now()}
	if err == nil && size > 0 && used >= size/100*roomPercent {
		r.err = ErrLedgerFull
	}
	l.room.Store(r)
	return r.err
}

// askRoom tells a full ledger from other reasons for a refused write.
func (l *Ledger) askRoom(ctx context.Context) error {
	used, size, err := l.size(ctx)
	if err != nil {
		return unavailable("ask the ledger's size", err)
	}
	if size > 0 && used >= size/100*roomPercent {
		return ErrLedgerFull
	}
	return nil
}

// size returns the bytes that the ledger uses and may use; 0 means no limit.
func (l *Ledger) size(ctx context.Context) (used, limit uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := l.conn.stream(ctx, LedgerStream)
	if err != nil {
		return 0, 0, err
	}
	info := s.CachedInfo()
	return info.State.Bytes, uint64(max(info.Config.MaxBytes, 0)), nil
}
