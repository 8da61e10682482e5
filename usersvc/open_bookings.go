package usersvc

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/fault"
)

// ErrTooManyOpen refuses one more open booking.
var ErrTooManyOpen = fault.New(fault.Conflict, "too_many_open_bookings",
	"You have too many open bookings. Cancel one, or wait until one is accepted or expires, before you book another.")

// openBookings bounds the open bookings of each user: those on the board, and those of this
// instance that the board does not show yet. So one instance never lets a user exceed the limit,
// and several at the same moment let them have at most as many each.
type openBookings struct {
	limit int // 0: none
	board *board.Board
	now   func() time.Time

	mu     sync.Mutex
	unseen map[booking.UserID][]booking.ID // perhaps on the board by now
	sweep  int                             // how many users of unseen make it worth looking
}

// leastSweep is how many users are remembered before the first look at what the board shows.
const leastSweep = 1024

// begin counts a booking that a user is about to make. Errors: ErrTooManyOpen.
func (o *openBookings) begin(user booking.UserID, id booking.ID) error {
	if o.limit <= 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.unseen[user], id) || o.board.LastSeq(id) != 0 { // a retry
		return nil
	}
	o.forgetSeen(user)
	if len(o.unseen) > max(o.sweep, leastSweep) {
		for other := range o.unseen {
			o.forgetSeen(other)
		}
		o.sweep = 2 * len(o.unseen)
	}
	open, now := len(o.unseen[user]), o.now()
	for _, b := range o.board.OfUser(user, math.MaxInt, 0, board.InState(booking.StateOpen)) {
		if !b.Overdue(now) {
			open++
		}
	}
	if open >= o.limit {
		return ErrTooManyOpen.Saying(fmt.Sprintf("You have as many open bookings as you may: %d. Cancel one, or wait "+
			"until one is accepted or expires, before you book another.", o.limit))
	}
	o.unseen[user] = append(o.unseen[user], id)
	return nil
}

// failed uncounts a booking that was not made.
func (o *openBookings) failed(user booking.UserID, id booking.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(user, func(other booking.ID) bool { return other == id })
}

// forgetSeen forgets the bookings that the board shows.
func (o *openBookings) forgetSeen(user booking.UserID) {
	o.forget(user, func(id booking.ID) bool { return o.board.LastSeq(id) != 0 })
}

func (o *openBookings) forget(user booking.UserID, which func(booking.ID) bool) {
	if left := slices.DeleteFunc(o.unseen[user], which); len(left) > 0 {
		o.unseen[user] = left
	} else {
		delete(o.unseen, user)
	}
}
