package board

import (
	"context"
	"math"
	"slices"
	"sync"
)

// progress is a growing sequence that goroutines can wait for. An advance wakes exactly the waiters
// whose sequence it has reached.
type progress struct {
	mu      sync.Mutex
	seq     uint64
	waiters []waiter
	next    uint64 // lowest sequence of a waiter; undefined without waiters
}

type waiter struct {
	seq     uint64
	reached chan struct{} // closed when seq is reached
}

func (p *progress) now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

func (p *progress) advance(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if seq <= p.seq {
		return
	}
	p.seq = seq
	if len(p.waiters) == 0 || seq < p.next {
		return
	}
	p.next = math.MaxUint64
	p.waiters = slices.DeleteFunc(p.waiters, func(w waiter) bool {
		if w.seq <= seq {
			close(w.reached)
			return true
		}
		p.next = min(p.next, w.seq)
		return false
	})
}

// await returns nil once the sequence has reached seq, or ctx's error.
func (p *progress) await(ctx context.Context, seq uint64) error {
	reached, ok := p.join(seq)
	if ok {
		return nil
	}
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		p.leave(reached)
		return ctx.Err()
	}
}

// join returns a channel that closes when the sequence reaches seq, or true if it has.
func (p *progress) join(seq uint64) (chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seq >= seq {
		return nil, true
	}
	if len(p.waiters) == 0 || seq < p.next {
		p.next = seq
	}
	reached := make(chan struct{})
	p.waiters = append(p.waiters, waiter{seq, reached})
	return reached, false
}

func (p *progress) leave(reached chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = slices.DeleteFunc(p.waiters, func(w waiter) bool { return w.reached == reached })
}
