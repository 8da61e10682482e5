package fleet

import (
	"slices"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

// publishRadius is how far from its pickup a rider's position is published, in metres. Nobody waits
// for a rider who is farther away.
const publishRadius = 50_000

// A watcher receives the positions of one rider. The channel holds the newest one that has not been
// read. Only a goroutine that holds the Map's lock sends to it or closes it.
type watcher struct{ next chan Position }

// Watch returns a channel with the positions of one rider from now on, the last known one first. A
// slow reader misses older positions and delays nobody. Call stop to close the channel; further
// calls do nothing.
func (m *Map) Watch(id booking.RiderID) (next <-chan Position, stop func()) {
	w := &watcher{make(chan Position, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[id] = append(m.watchers[id], w)
	if r, ok := m.find(id, m.options.Now()); ok && r.version != 0 && m.publishable(r) {
		w.next <- r.position(r.published)
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

// publish replaces the unread position of each watcher of a rider.
func (m *Map) publish(r *rider) {
	if len(m.watchers[r.id]) == 0 || !m.publishable(r) {
		return
	}
	for _, w := range m.watchers[r.id] {
		select {
		case <-w.next:
		default:
		}
		w.next <- r.position(r.published) // there is room: this goroutine holds the lock
	}
}

// publishable reports whether watchers may see where a rider is.
func (m *Map) publishable(r *rider) bool {
	to, ok := m.options.Heading(r.id)
	return !ok || geo.Metres(r.published.point.Distance(to.Pickup.Point())) <= publishRadius
}
