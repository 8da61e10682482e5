package fleet

import (
	"time"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/booking"
)

// areaLevel is the level of s2 cells that are about 300 metres wide.
const areaLevel = 15

func areaOf(p s2.Point) s2.Point { return s2.CellFromPoint(p).ID().Parent(areaLevel).Point() }

func (r *rider) position(s sighting) Position { return Position{s.place, s.at, r.moved} }

// Last returns the last position of a rider, however old it is, and whether there is one.
func (m *Map) Last(id booking.RiderID) (Position, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.find(id, m.options.Now())
	if !ok || r.version == 0 {
		return Position{}, false
	}
	return r.position(r.last), true
}

// Where returns a rider's position. ok is false if there is none, or it has expired.
func (m *Map) Where(id booking.RiderID) (p Position, ok bool) {
	p, ok = m.Last(id)
	if !ok || m.options.Now().Sub(p.At) > m.options.MaxAge {
		return Position{}, false
	}
	return p, true
}

// Online reports whether a rider is online: its position has not expired, and the rider has not
// gone offline.
func (m *Map) Online(id booking.RiderID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.options.Now()
	r, ok := m.find(id, now)
	return ok && m.online(r, now)
}

func (m *Map) online(r *rider, now time.Time) bool {
	return r.version != 0 && !r.offline && now.Sub(r.last.at) <= m.options.MaxAge
}

// free returns a function that reports whether a rider is online and has no ride.
func (m *Map) free() func(*rider) bool {
	now := m.options.Now()
	return func(r *rider) bool { return m.online(r, now) && !m.options.Busy(r.id) }
}

// Nearest returns up to limit of the free riders within radius metres of a place, nearest first. It
// returns none for an invalid place or radius.
func (m *Map) Nearest(at booking.Place, radius float64, limit int) []Neighbour {
	return m.nearest(at, radius, limit, func(*rider) bool { return true })
}

// NearestLocal is Nearest among the riders whose last position was reported to this Map, rather
// than learned from another instance.
func (m *Map) NearestLocal(at booking.Place, radius float64, limit int) []Neighbour {
	return m.nearest(at, radius, limit, func(r *rider) bool { return r.local })
}

func (m *Map) nearest(at booking.Place, radius float64, limit int, among func(*rider) bool) []Neighbour {
	if at.Valid() != nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	free := m.free()
	found := m.byPosition.Nearest(at.Point(), radius, limit, func(r *rider) bool { return among(r) && free(r) })
	near := make([]Neighbour, len(found))
	for i, f := range found {
		near[i] = Neighbour{f.Thing.id, f.Thing.last.place, f.Metres}
	}
	return near
}

// Around returns how many free riders are within radius metres of a place, and how far the nearest
// is. It places each rider in the middle of an area about 300 metres wide. So nobody learns more
// than a rider's area by asking from many places.
func (m *Map) Around(at booking.Place, radius float64) Availability {
	if at.Valid() != nil {
		return Availability{}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := m.byArea.Nearest(at.Point(), radius, MaxCount, m.free())
	if len(found) == 0 {
		return Availability{}
	}
	return Availability{Riders: len(found), Metres: found[0].Metres}
}

// Count returns how many riders the Map remembers, and how many of them are online.
func (m *Map) Count() (known, online int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.options.Now()
	for _, r := range m.riders {
		if m.online(r, now) {
			online++
		}
	}
	return len(m.riders), online
}

// A Presence is a rider who is online.
type Presence struct {
	Rider booking.RiderID
	booking.Place
	Busy bool // with a ride
}

// Present returns up to limit of the riders who are online, in no order.
func (m *Map) Present(limit int) []Presence {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now, found := m.options.Now(), make([]Presence, 0, min(limit, len(m.riders)))
	for _, r := range m.riders {
		if len(found) == limit {
			break
		}
		if m.online(r, now) {
			found = append(found, Presence{r.id, r.last.place, m.options.Busy(r.id)})
		}
	}
	return found
}
