package board

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

// A Nearby is a booking with a pickup near a place.
type Nearby struct {
	booking.Booking
	Metres float64 // distance to the rough pickup as the crow flies
}

// Near returns up to limit bookings that are open at time now, pass the filters, and have a pickup
// within radius metres of a place. The nearest come first, and among equals the longest waiting.
// Near omits bookings without places and those whose deadline has passed. It returns none for an
// invalid place or radius.
//
// It knows each pickup roughly (see [booking.Place.Rough]), as riders do before they have accepted:
// nobody learns more by asking from many places.
func (b *Board) Near(at booking.Place, radius float64, now time.Time, limit int, filters ...Filter) []Nearby {
	if at.Valid() != nil {
		return nil
	}
	f := newFilter(filters)
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := b.openPlaces.near(at, radius, nanos(now), limit, &f)
	near := make([]Nearby, len(found))
	for i, f := range found {
		near[i] = Nearby{f.Thing.clone(), f.Metres}
	}
	return near
}

// Reachable returns up to limit open bookings for a rider at a place: those of Near, then those
// without places, longest waiting first. With a nil place, which is unknown, it returns only the
// latter. The list is consistent: if it has fewer than limit, there were no others at that moment.
func (b *Board) Reachable(at *booking.Place, radius float64, now time.Time, limit int) []booking.Booking {
	if at != nil && at.Valid() != nil || limit <= 0 {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []booking.Booking
	anything := newFilter(nil)
	if at != nil {
		for _, f := range b.openPlaces.near(*at, radius, nanos(now), limit, &anything) {
			found = append(found, f.Thing.clone())
		}
	}
	return append(found, clones(b.openPlaces.nowhere.after(nanos(now), 0), limit-len(found), &anything)...)
}

// openPlaces indexes the open bookings by rough pickup. Those without one are in nowhere.
type openPlaces struct {
	pickups geo.Index[*record]
	nowhere openIndex
}

func (x *openPlaces) near(at booking.Place, radius float64, now int64, limit int, f *filter) []geo.Found[*record] {
	return x.pickups.Nearest(
		at.Point(), radius, limit, func(r *record) bool { return r.deadline >= now && f.passes(r) },
	)
}

func (x *openPlaces) add(r *record) {
	if r.trip == nil {
		x.nowhere.add(r)
		return
	}
	x.pickups.Add(r.trip.pickup.Rough().Point(), r.openedSeq, r)
}

// remove removes a booking. Call it before the booking changes.
func (x *openPlaces) remove(r *record) {
	if r.trip == nil {
		x.nowhere.remove(r)
		return
	}
	x.pickups.Remove(r.trip.pickup.Rough().Point(), r.openedSeq)
}
