package throttle

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrFull says that a queue is full, and that no network has more waiting than the caller's.
var ErrFull = errors.New("the queue is full")

// Turns share a number of slots fairly between networks: one after the other gets a slot, however
// many are waiting in each. So a network that floods a service waits behind its own requests, and
// all others behind at most one of them, whether the requests are good or bad. Make them with
// [NewTurns].
type Turns struct {
	mu      sync.Mutex
	free    int // slots; 0 while anybody waits
	room    int // for more to wait
	waiting []*lane
}

// A lane is the queue of one network. It is never empty.
type lane struct {
	network string
	queue   []waiter
}

// A waiter is told true when its turn has come, or false when it has lost its place. It has room
// for the answer.
type waiter chan bool

// NewTurns returns slots, for which up to queue callers wait.
func NewTurns(slots, queue int) *Turns { return &Turns{free: slots, room: queue} }

// Take waits for a slot. The caller must call done afterwards. When the queue is full, the newest
// of the network with the most waiting loses its place. Errors: ErrFull, and that of ctx.
func (t *Turns) Take(ctx context.Context, network string) (done func(), err error) {
	w := make(waiter, 1)
	if free, err := t.enter(network, w); err != nil {
		return nil, err
	} else if free {
		return t.pass, nil
	}
	select {
	case mine := <-w:
		if !mine {
			return nil, ErrFull
		}
		return t.pass, nil
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.leave(network, w) && <-w {
			t.next() // the turn came just now
		}
		return nil, ctx.Err()
	}
}

// enter takes a free slot, or a place in the queue.
func (t *Turns) enter(network string, w waiter) (free bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return true, nil
	}
	own := t.lane(network)
	if t.room == 0 {
		longest := slices.MaxFunc(t.waiting, func(a, b *lane) int { return len(a.queue) - len(b.queue) })
		if own != nil && len(own.queue)+1 >= len(longest.queue) || len(longest.queue) == 1 {
			return false, ErrFull
		}
		last := longest.queue[len(longest.queue)-1]
		t.leave(longest.network, last)
		last <- false
	}
	if own == nil {
		own = &lane{network: network}
		t.waiting = append(t.waiting, own)
	}
	own.queue = append(own.queue, w)
	t.room--
	return false, nil
}

// lane returns the lane of a network, or nil if nobody waits there.
func (t *Turns) lane(network string) *lane {
	if i := slices.IndexFunc(t.waiting, func(l *lane) bool { return l.network == network }); i >= 0 {
		return t.waiting[i]
	}
	return nil
}

// leave removes a waiter from its lane, and reports whether it was there.
func (t *Turns) leave(network string, w waiter) bool {
	l := t.lane(network)
	if l == nil {
		return false
	}
	before := len(l.queue)
	l.queue = slices.DeleteFunc(l.queue, func(other waiter) bool { return other == w })
	t.waiting = slices.DeleteFunc(t.waiting, func(l *lane) bool { return len(l.queue) == 0 })
	t.room += before - len(l.queue)
	return before != len(l.queue)
}

// pass gives a slot back.
func (t *Turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next gives a slot to the first of the network whose turn it is.
func (t *Turns) next() {
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	l := t.waiting[0]
	first := l.queue[0]
	t.waiting = append(t.waiting[1:], l) // its next one comes after all other networks
	t.leave(l.network, first)
	first <- true
}
