package usersvc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"pillion/booking"
	"pillion/booking/bookingtest"
	"pillion/bus"
	"pillion/usersvc"
)

var (
	_ usersvc.Ledger = (*bus.Ledger)(nil)
	_ usersvc.Ledger = (*ledger)(nil)
)

// A ledger is the log in memory with a board behind it, which can be held back, and a process's own view of what it appended.
type ledger struct {
	*bookingtest.Log
	board *booking.Board

	mu       sync.Mutex
	appended uint64
	held     bool
	behind   []booking.Event // stored, and not yet on the board
	full     error           // what Roomy says
	away     error           // what Append says
}

func newLedger(options ...bookingtest.Option) *ledger {
	return &ledger{Log: bookingtest.NewLog(options...), board: booking.NewBoard()}
}

func (l *ledger) Append(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event) (booking.History, error) {
	return l.write(len(events), func() (booking.History, error) { return l.Log.Append(ctx, c, id, after, events...) })
}

func (l *ledger) Engage(ctx context.Context, c booking.Command, id booking.ID, after booking.History, at booking.Engagement, e booking.Event) (booking.History, error) {
	return l.write(1, func() (booking.History, error) { return l.Log.Engage(ctx, c, id, after, at, e) })
}

// write is one append of so many events.
func (l *ledger) write(events int, write func() (booking.History, error)) (booking.History, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return booking.History{}, l.away
	}
	h, err := write()
	if err != nil {
		return h, err
	}
	l.appended = h.Revision
	l.behind = append(l.behind, h.Events[len(h.Events)-events:]...)
	return h, l.feed()
}

// feed brings the board up to what is stored, unless it is held.
func (l *ledger) feed() error {
	if l.held {
		return nil
	}
	for _, e := range l.behind {
		if err := l.board.Apply(e); err != nil {
			return errors.Join(errors.New("the board refuses what the log stored"), err)
		}
		l.board.Advance(e.Seq)
	}
	l.behind = nil
	return nil
}

// hold stops the board where it is.
func (l *ledger) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

func (l *ledger) release(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	if err := l.feed(); err != nil {
		t.Error(err)
	}
}

func (l *ledger) fail(full, away error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full, l.away = full, away
}

func (l *ledger) Appended() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appended
}

func (l *ledger) Roomy(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full
}
