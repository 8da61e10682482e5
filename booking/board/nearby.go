package board

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

// A Nearby is a booking whose pickup is near, and how far that is.
type Nearby struct {
	booking.Booking
	Metres float64 // to the pickup, as the crow flies
}

// Near returns up to limit bookings that wait for a rider at time now and whose pickup is within
// radius metres of a place, nearest first, and of those that are equally near, longest waiting
// first. Bookings without places are not among them, nor are those whose deadline has passed or
// that only does not let pass. It finds none around what is no place, and none within a radius that
// is no number or not more than 0.
func (b *Board) Near(at booking.Place, radius float64, now time.Time, limit int, only ...Filter) []Nearby {
	if at.Valid() != nil {
		return nil
	}
	f := newFilter(only)
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := b.openPlaces.near(at, radius, nanos(now), limit, &f)
	near := make([]Nearby, len(found))
	for i, f := range found {
		near[i] = Nearby{f.Thing.clone(), f.Metres}
	}
	return near
}

// Reachable returns up to limit bookings that wait for a rider who is at a place: those of Near,
// and then those without places, longest waiting first. A nil place is not known: nothing is near
// it. Reachable is one look: where it returns fewer than limit there were no others at that moment.
func (b *Board) Reachable(at *booking.Place, radius float64, now time.Time, limit int) []booking.Booking {
	if at != nil && at.Valid() != nil || limit <= 0 {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := make([]booking.Booking, 0, min(limit, b.open.size))
	if at != nil {
		anything := newFilter(nil)
		for _, f := range b.openPlaces.near(*at, radius, nanos(now), limit, &anything) {
			found = append(found, f.Thing.clone())
		}
	}
	for r := range b.openPlaces.nowhere.after(nanos(now), 0) {
		if len(found) == limit {
			break
		}
		found = append(found, r.clone())
	}
	return found
}

// A openPlaces holds the open bookings by where their pickup is, beside those that have none.
type openPlaces struct {
	pickups geo.Index[*record]
	nowhere openIndex
}

func (x *openPlaces) near(at booking.Place, radius float64, now int64, limit int, f *filter) []geo.Found[*record] {
	return x.pickups.Nearest(at.Point(), radius, limit, func(r *record) bool {
		return r.deadline >= now &&
			f.passes(r)
	})
}

func (x *openPlaces) add(r *record) {
	if r.trip == nil {
		x.nowhere.add(r)
		return
	}
	x.pickups.Add(r.trip.pickup.Point(), r.openedSeq, r)
}

// remove takes out a booking as it was added: before it changes.
func (x *openPlaces) remove(r *record) {
	if r.trip == nil {
		x.nowhere.remove(r)
		return
	}
	x.pickups.Remove(r.trip.pickup.Point(), r.openedSeq)
}
