package sim

import (
	"sync"
	"time"

	"github.com/example/pillion/booking"
)

// A ride is what this run knows of one booking: what its people have been told. It is safe for
// concurrent use.
type ride struct {
	id   booking.ID
	user *user
	trip Trip

	mu      sync.Mutex
	state   booking.State
	changed chan struct{} // closed at the next change
	rider   *rider        // the last one who has accepted
	fare    int64         // in minor units of the currency
	metres  float64       // from the rider to the pickup, at the acceptance

	requested, accepted, arrived, started, ended time.Time
	released                                     int // how often
}

// ride returns a booking of this run, or nil.
func (r *run) ride(id booking.ID) *ride {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rides[id]
}

// owner returns the user of a booking, or nil if it is not of this run.
func (r *run) owner(id booking.ID) *user {
	if x := r.ride(id); x != nil {
		return x.user
	}
	return nil
}

// happened records an event that was acknowledged.
func (r *run) happened(a acknowledged) {
	x := r.ride(a.Booking)
	if x == nil {
		return
	}
	if x.note(a) && r.Forget {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.rides, a.Booking)
	}
}

// note records an event, and reports whether it ends the ride. Answers of concurrent calls may come
// in another order than the events: what has ended stays so.
func (x *ride) note(a acknowledged) (over bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	state := x.state
	switch a.Kind {
	case booking.Requested:
		x.requested = a.start
		if state == booking.StateNone {
			state = booking.StateOpen
		}
	case booking.Accepted:
		state, x.accepted, x.rider = booking.StateAccepted, a.end, a.rider
		if a.rider != nil {
			x.metres = a.rider.metresTo(x.trip.From)
		}
		if a.fare > 0 {
			x.fare = a.fare
		}
	case booking.Arrived:
		state, x.arrived = booking.StateArrived, a.end
	case booking.Started:
		state, x.started = booking.StateStarted, a.end
	case booking.Released:
		x.released++
		state = booking.StateOpen
	case booking.Completed:
		state, x.ended = booking.StateCompleted, a.end
	case booking.Cancelled:
		state, x.ended = booking.StateCancelled, a.end
	default: // ratings
		return false
	}
	over = state == booking.StateCompleted || state == booking.StateCancelled
	if !x.over() {
		x.state = state
	}
	close(x.changed)
	x.changed = make(chan struct{})
	return over
}

func (x *ride) over() bool {
	return x.state == booking.StateCompleted || x.state == booking.StateCancelled || x.state == booking.StateExpired
}

// expire records that no rider has accepted the booking in time.
func (x *ride) expire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over() {
		x.state, x.ended = booking.StateExpired, time.Now()
	}
}

// price returns the fare.
func (x *ride) price() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fare
}

// now returns the state, when it began, and what is closed at its end.
func (x *ride) now() (state booking.State, since time.Time, changed <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	since = x.requested
	if x.state == booking.StateAccepted {
		since = x.accepted
	}
	return x.state, since, x.changed
}
