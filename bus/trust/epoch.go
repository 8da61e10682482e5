package trust

import "sync"

// An Epoch counts changes of the past. Readers of the ledger judge an event by the keys and
// revocations of the time at which it was stored. Those do not change, except on purpose: when an
// operator says today that a key or a token was not valid since Sunday, or that the old rule has
// ended. Then earlier verdicts must be reached again. The watches of keys and revocations advance
// the Epoch of the ledger whose events they help to judge. The zero value is ready.
type Epoch struct {
	mu      sync.RWMutex
	changes uint64
	next    chan struct{} // closed and replaced by Advance; nil: nobody has asked for it
}

// Advance counts one change.
func (e *Epoch) Advance() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changes++
	if e.next != nil {
		close(e.next)
		e.next = nil
	}
}

// Version returns the number of changes.
func (e *Epoch) Version() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.changes
}

// After returns a channel that is closed once there are more changes than version.
func (e *Epoch) After(version uint64) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changes > version {
		changed := make(chan struct{})
		close(changed)
		return changed
	}
	if e.next == nil {
		e.next = make(chan struct{})
	}
	return e.next
}
