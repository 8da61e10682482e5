package ridersvc

import (
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// lookEvery is how often deadlines are looked at: how late a stream may say that one has passed.
const lookEvery = time.Second

// lapses are the bookings whose deadline has passed and that no event has ended yet. All streams of an instance share one look at the board. The
// zero value is ready for use.
type lapses struct {
	mu    sync.Mutex
	at    time.Time // of the last look
	found []booking.Booking
}

// between returns the bookings whose deadline passed after a time and not after now, as far as that is known, and up to when it is.
func (l *lapses) between(board *board.Board, after, now time.Time) (found []booking.Booking, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.at) >= lookEvery/2 || now.Before(l.at) {
		l.at, l.found = now, board.Overdue(now)
	}
	for _, b := range l.found {
		if !b.Deadline.After(after) || b.Deadline.After(l.at) {
			continue
		}
		if b, ok := board.Get(b.ID); ok && b.Overdue(now) { // it was when somebody looked
			found = append(found, b)
		}
	}
	return found, l.at
}
