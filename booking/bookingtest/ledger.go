package bookingtest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// A Ledger is a Log with a board, like those of one process. Tests can hold back the board,
// intercept appends and make them fail. Set the exported fields before the first call.
type Ledger struct {
	*Log
	Board *board.Board
	// called before each append of this process
	Before func(ctx context.Context, id booking.ID) error

	mu       sync.Mutex
	last     uint64 // sequence of the last message
	appended uint64 // sequence of this process's last message
	tries    int    // appends tried by this process
	held     bool
	behind   []booking.Event // stored events that are not on the board yet
	full     error
	away     error
	after    func()
}

// NewLedger returns an empty ledger.
func NewLedger(options ...Option) *Ledger {
	return &Ledger{Log: NewLog(options...), Board: board.New()}
}

// Append implements booking.Log.
func (l *Ledger) Append(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event,
) (booking.History, error) {
	return l.own(ctx, id, len(events), func() (booking.History, error) {
		h, err := l.Load(ctx, id, booking.Fresh)
		if err == nil && l.full != nil && events[0].Kind == booking.Requested && h.Revision == after.Revision {
			return booking.History{}, l.full
		}
		return l.Log.Append(ctx, c, id, after, events...)
	})
}

// Engage implements booking.Log.
func (l *Ledger) Engage(
	ctx context.Context,
	c booking.Command,
	id booking.ID,
	after booking.History,
	at booking.Engagement,
	e booking.Event,
) (booking.History, error) {
	return l.own(ctx, id, 1, func() (booking.History, error) { return l.Log.Engage(ctx, c, id, after, at, e) })
}

func (l *Ledger) own(
	ctx context.Context, id booking.ID, events int, write func() (booking.History, error),
) (booking.History, error) {
	if l.Before != nil {
		if err := l.Before(ctx, id); err != nil {
			return booking.History{}, err
		}
	}
	return l.write(true, events, write)
}

// Elsewhere returns the log as another process sees it. This process does not notice its appends.
func (l *Ledger) Elsewhere() booking.Log { return elsewhere{l} }

type elsewhere struct{ *Ledger }

func (l elsewhere) Append(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event,
) (booking.History, error) {
	return l.write(
		false,
		len(events),
		func() (booking.History, error) { return l.Log.Append(ctx, c, id, after, events...) },
	)
}

func (l elsewhere) Engage(
	ctx context.Context,
	c booking.Command,
	id booking.ID,
	after booking.History,
	at booking.Engagement,
	e booking.Event,
) (booking.History, error) {
	return l.write(false, 1, func() (booking.History, error) { return l.Log.Engage(ctx, c, id, after, at, e) })
}

// write runs one append of n events, by this process or another one.
func (l *Ledger) write(own bool, events int, write func() (booking.History, error)) (booking.History, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own {
		l.tries++
		if l.away != nil {
			return booking.History{}, l.away
		}
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

// feed applies the stored events to the board, unless it is held.
func (l *Ledger) feed() error {
	if l.held {
		return nil
	}
	for _, e := range l.behind {
		if err := l.Board.Apply(e); err != nil {
			return errors.Join(errors.New("the board refuses what the log stored"), err)
		}
	}
	l.Board.Advance(l.last)
	l.behind = nil
	return nil
}

// Hold keeps the board in its present state.
func (l *Ledger) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Release ends Hold and updates the board.
func (l *Ledger) Release(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	if err := l.feed(); err != nil {
		t.Error(err)
	}
}

// Fail makes appends of this process and LastSequence fail with an error. nil ends that.
func (l *Ledger) Fail(away error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// Fill makes new bookings of this process fail with an error. nil ends that.
func (l *Ledger) Fill(full error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// Then makes LastSequence call after once, after it has read its answer and before it returns.
func (l *Ledger) Then(after func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.after = after
}

// Tried returns the number of appends that this process has tried.
func (l *Ledger) Tried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tries
}

// Appended returns the sequence of the last message that this process appended.
func (l *Ledger) Appended() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appended
}

// LastSequence returns the sequence of the last message.
func (l *Ledger) LastSequence(context.Context) (uint64, error) {
	l.mu.Lock()
	last, err, after := l.last, l.away, l.after
	l.after = nil
	l.mu.Unlock()
	if after != nil {
		after()
	}
	return last, err
}
