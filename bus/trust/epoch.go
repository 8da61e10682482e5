package trust

import "sync"

// The past is what readers of the ledger judge events by as of when they were stored. It does not change, except on purpose: when an
// operator says today that tokens or keys were not good since Sunday. Then what was judged by it has to be judged anew.
type Epoch struct {
	mu      sync.RWMutex
	changes uint64
	next    chan struct{} // closed and replaced by change; nil: nobody has asked for it
}

// change says that it has changed.
func (p *Epoch) Advance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	if p.next != nil {
		close(p.next)
		p.next = nil
	}
}

// version returns how often it has changed.
func (p *Epoch) Version() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.changes
}

// after returns a channel that is closed once it has changed more often than version says.
func (p *Epoch) After(version uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes > version {
		changed := make(chan struct{})
		close(changed)
		return changed
	}
	if p.next == nil {
		p.next = make(chan struct{})
	}
	return p.next
}
