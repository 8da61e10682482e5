package authsvc

import (
	"sync"
	"sync/atomic"
	"time"
)

// An outage is the last time that this instance could not use the sessions' store, or was not there to use it. Who asked for a refresh then
// may have got no answer, and could not ask again: the grace of a refresh is counted from the end of it. It is safe for concurrent use.
type outage struct {
	mu          sync.Mutex
	from, until time.Time
}

// started returns the outage of an instance that begins at a time: before that, it was not there.
func started(now time.Time) *outage { return &outage{until: now} }

// note says that the store was of no use from one time to another. What begins within gap of the end of what is known belongs to it.
func (o *outage) note(from, until time.Time, gap time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if from.After(o.until.Add(gap)) || from.Before(o.from) {
		o.from = from
	}
	if until.After(o.until) {
		o.until = until
	}
}

// whileOff returns clock, and notes that nobody was answered until it could be gone by again. When that began it does not say: times of then are worth
// nothing.
func (o *outage) whileOff(clock func() error, now func() time.Time) func() error {
	if clock == nil {
		return nil
	}
	var off atomic.Bool
	return func() error {
		err := clock()
		if err != nil {
			off.Store(true)
		} else if off.CompareAndSwap(true, false) {
			o.note(time.Time{}, now(), 0)
		}
		return err
	}
}

// since returns from when the grace of something counts that was stored at a time: from then, or where an outage began before that grace was
// over, from the end of the outage.
func (o *outage) since(stored time.Time, grace time.Duration) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until.After(stored) && !o.from.After(stored.Add(grace)) {
		return o.until
	}
	return stored
}
