package fleet

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

// An approach is how a rider comes nearer to the pickup of one booking. Distances are in metres
// from the pickup.
type approach struct {
	ride    uint64 // Seq of the acceptance
	begun   time.Time
	initial float64   // distance in the beginning
	best    float64   // least distance that was held for a confirmWindow
	at      time.Time // when best was reached; zero: never

	nearerSince time.Time // since when the rider has been nearer than best; zero: it is not
	farthest    float64   // greatest distance since then
}

// trackApproach updates a rider's approach. A lesser distance counts once it was held for half a
// minute, so the error of a receiver is no approach.
func (m *Map) trackApproach(r *rider) {
	to, ok := m.options.Heading(r.id)
	if !ok {
		r.approach = nil
		return
	}
	at := r.last.at
	if at.Before(to.Since) { // the position is older than the acceptance
		return
	}
	metres := geo.Metres(r.last.point.Distance(to.Pickup.Point()))
	a := r.approach
	if a == nil || a.ride != to.Seq {
		r.approach = &approach{ride: to.Seq, begun: at, initial: metres, best: metres}
		return
	}
	switch {
	// an error in the beginning must not count as an approach later
	case at.Sub(a.begun) < confirmWindow:
		a.initial = min(a.initial, metres)
		a.best = a.initial
	case metres > a.best-m.options.MinMove:
		a.nearerSince = time.Time{}
	case a.nearerSince.IsZero():
		a.nearerSince, a.farthest = at, metres
	default:
		a.farthest = max(a.farthest, metres)
		if at.Sub(a.nearerSince) >= confirmWindow {
			a.best, a.at, a.nearerSince = a.farthest, at, time.Time{}
		}
	}
}

// Approach returns how much nearer the rider of an accepted booking has come to the pickup. For a
// booking without a pickup it returns when the rider last moved.
func (m *Map) Approach(b booking.Booking) booking.Approach {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.find(b.Rider, m.options.Now())
	switch {
	case !ok:
		return booking.Approach{}
	case b.Pickup == nil:
		return booking.Approach{At: r.moved}
	case r.approach == nil || r.approach.ride != b.Seq:
		return booking.Approach{}
	}
	return booking.Approach{At: r.approach.at, Metres: r.approach.initial - r.approach.best}
}
