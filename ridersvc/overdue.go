package ridersvc

import (
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// overdueEvery is how often streams look for passed deadlines.
const overdueEvery = time.Second

// overdue holds the open bookings whose deadline has passed and that no event has ended yet. All
// streams of an instance share one look at the board. The zero value is ready to use.
type overdue struct {
	mu    sync.Mutex
	at    time.Time // of the last look
	found []booking.Booking
}

// between returns the bookings whose deadline passed after a time and up to until, the time of the
// last look, which is not after now.
func (o *overdue) between(board *board.Board, after, now time.Time) (found []booking.Booking, until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.at) >= overdueEvery/2 || now.Before(o.at) {
		o.at, o.found = now, board.Overdue(now)
	}
	for _, b := range o.found {
		if !b.Deadline.After(after) || b.Deadline.After(o.at) {
			continue
		}
		if b, ok := board.Get(b.ID); ok && b.Overdue(now) { // it may have changed since the look
			found = append(found, b)
		}
	}
	return found, o.at
}
