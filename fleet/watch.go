package fleet

import (
	"slices"

	"github.com/example/pillion/booking"
)

// A watcher is somebody who wants to know where a rider is.
type watcher struct{ next chan Position } // of one: the newest that has not been read; written to and closed under the Map's lock only

// Watch returns a channel on which the positions of one rider come from now on, as they are reported, the last known one at once if there is any. Who
// reads slowly misses older ones and never makes anybody wait. Call stop, which closes the channel; it may be called again.
func (m *Map) Watch(id booking.RiderID) (<-chan Position, func()) {
	w := &watcher{make(chan Position, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[id] = append(m.watchers[id], w)
	if r, ok := m.known(id, m.now()); ok && r.stamp != 0 && m.tellable(r) {
		w.next <- r.position(r.told)
	}
	return w.next, func() { m.unwatch(id, w) }
}

func (m *Map) unwatch(id booking.RiderID, w *watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rest := m.watchers[id]
	i := slices.Index(rest, w)
	if i < 0 {
		return
	}
	if rest = slices.Delete(rest, i, i+1); len(rest) == 0 {
		delete(m.watchers, id)
	} else {
		m.watchers[id] = rest
	}
	close(w.next)
}

// tell replaces what each watcher of a rider has not read yet.
func (m *Map) tell(r *rider) {
	if len(m.watchers[r.id]) == 0 || !m.tellable(r) {
		return
	}
	for _, w := range m.watchers[r.id] {
		select {
		case <-w.next:
		default:
		}
		w.next <- r.position(r.told) // there is room: nobody else writes
	}
}
