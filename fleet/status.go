package fleet

import (
	"time"

	"github.com/example/pillion/booking"
)

// maxClockSkew is how far another instance's clock may be ahead for its statuses to be accepted.
const maxClockSkew = 24 * time.Hour

// SetOnline notes that a rider has gone online or offline, and returns the rider's new status.
// Errors: ErrNoRider.
func (m *Map) SetOnline(id booking.RiderID, online bool) (Status, error) {
	if id == "" {
		return Status{}, ErrNoRider
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Now()
	r := m.touch(id, now)
	r.offline, r.said = !online, max(r.said+1, now.UnixMilli())
	return r.status(now), nil
}

// HasSaid reports whether the Map knows if the rider said last to be online or offline.
func (m *Map) HasSaid(id booking.RiderID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.find(id, m.options.Now())
	return ok && r.said != 0
}

// Learn takes another instance's status of a rider, and reports whether it was news. A status that
// is not later than the known one changes nothing, with one exception: it replaces a position that
// has expired. Whatever the clocks say, the other instance has heard from the rider since. Errors:
// ErrStatus.
func (m *Map) Learn(s Status) (news bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Now()
	if !s.plausible(now) {
		return false, ErrStatus
	}
	r, known := m.find(s.Rider, now)
	seen := sighting{s.Place, s.Place.Point(), now.Add(-s.Age), s.Accuracy}
	moved := s.At != 0 && !known
	if s.At != 0 && known {
		moved = s.At > r.version && !seen.at.Before(r.last.at) ||
			s.At != r.version && now.Sub(r.last.at) > m.options.MaxAge
	}
	said := s.Said != 0 && (!known || s.Said > r.said)
	if !moved && !said {
		return false, nil
	}
	r = m.touch(s.Rider, now)
	if moved {
		m.move(r, seen, s.At)
		r.local = false
	}
	if said {
		r.offline, r.said = !s.Online, s.Said
	}
	return true, nil
}

// plausible reports whether s can be true at all.
func (s Status) plausible(now time.Time) bool {
	latest := now.Add(maxClockSkew).UnixMilli()
	if s.Rider == "" || s.At < 0 || s.At > latest || s.Said < 0 || s.Said > latest {
		return false
	}
	if s.At == 0 {
		return true
	}
	return s.Place.Valid() == nil && !isNullIsland(s.Place) &&
		s.Age >= 0 && s.Age <= maxClockSkew && s.Accuracy >= 0 && s.Accuracy <= MaxInaccuracy
}

func (r *rider) status(now time.Time) Status {
	s := Status{Rider: r.id, Online: !r.offline, Said: r.said}
	if r.version != 0 {
		s.Place, s.At, s.Age, s.Accuracy = r.last.place, r.version, max(0, now.Sub(r.last.at)), r.last.error
	}
	return s
}
