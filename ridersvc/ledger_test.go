package ridersvc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"pillion/booking"
	"pillion/booking/bookingtest"
	"pillion/bus"
	"pillion/ridersvc"
)

var (
	_ ridersvc.Ledger = (*bus.Ledger)(nil)
	_ ridersvc.Ledger = (*ledger)(nil)
)

// A ledger is the log in memory with a board behind it, which can be held back, and a process's own view of what it appended.
type ledger struct {
	*bookingtest.Log
	board  *booking.Board
	before func(ctx context.Context, id booking.ID) error // called before each append of this process

	mu       sync.Mutex
	last     uint64 // the highest sequence there is
	appended uint64 // the highest that this process has appended
	tries    int    // appends that this process has tried
	held     bool
	behind   []booking.Event // stored, and not yet on the board
	away     error           // what LastSequence says
	after    func()          // called once, when LastSequence knows its answer and has not given it
}

func newLedger(options ...bookingtest.Option) *ledger {
	return &ledger{Log: bookingtest.NewLog(options...), board: booking.NewBoard()}
}

func (l *ledger) Append(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event) (booking.History, error) {
	if l.before != nil {
		if err := l.before(ctx, id); err != nil {
			return booking.History{}, err
		}
	}
	return l.write(true, len(events), func() (booking.History, error) { return l.Log.Append(ctx, c, id, after, events...) })
}

func (l *ledger) Engage(ctx context.Context, c booking.Command, id booking.ID, after booking.History, at booking.Engagement, e booking.Event) (booking.History, error) {
	if l.before != nil {
		if err := l.before(ctx, id); err != nil {
			return booking.History{}, err
		}
	}
	return l.write(true, 1, func() (booking.History, error) { return l.Log.Engage(ctx, c, id, after, at, e) })
}

// elsewhere is the same log as another process has it.
type elsewhere struct{ *ledger }

func (l elsewhere) Append(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event) (booking.History, error) {
	return l.write(false, len(events), func() (booking.History, error) { return l.Log.Append(ctx, c, id, after, events...) })
}

func (l elsewhere) Engage(ctx context.Context, c booking.Command, id booking.ID, after booking.History, at booking.Engagement, e booking.Event) (booking.History, error) {
	return l.write(false, 1, func() (booking.History, error) { return l.Log.Engage(ctx, c, id, after, at, e) })
}

// write is one append of so many events, by this process or by another one.
func (l *ledger) write(own bool, events int, write func() (booking.History, error)) (booking.History, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own {
		l.tries++
	}
	h, err := write()
	if err != nil {
		return h, err
	}
	l.last = h.Revision
	if own {
		l.appended = h.Revision
	}
	l.behind = append(l.behind, h.Events[len(h.Events)-events:]...)
	return h, l.feed()
}

// feed brings the board up to what is stored, unless it is held. Whoever waits for any of it sees all of it.
func (l *ledger) feed() error {
	if l.held {
		return nil
	}
	for _, e := range l.behind {
		if err := l.board.Apply(e); err != nil {
			return errors.Join(errors.New("the board refuses what the log stored"), err)
		}
	}
	l.board.Advance(l.last)
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

func (l *ledger) fail(away error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

func (l *ledger) tried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tries
}

func (l *ledger) Appended() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appended
}

func (l *ledger) LastSequence(context.Context) (uint64, error) {
	l.mu.Lock()
	last, err, after := l.last, l.away, l.after
	l.after = nil
	l.mu.Unlock()
	if after != nil {
		after()
	}
	return last, err
}
