package ridersvc

import (
	"math"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// offer is an open booking as riders see it. It shows nothing of the user, and both places roughly:
// the exact ones are for the rider who has accepted. The dropoff is rough because its distance to
// the pickup follows from the fare.
type offer struct {
	Booking booking.ID     `json:"booking_id"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
	*booking.Quote
	OpenedAt jsontime.Time `json:"opened_at"`
	Deadline jsontime.Time `json:"deadline"` // until when it may be accepted
}

func offerOf(b booking.Booking) offer {
	return offer{
		Booking: b.ID, Pickup: rough(b.Pickup), Dropoff: rough(b.Dropoff), Quote: b.Quote,
		OpenedAt: jsontime.Time(b.OpenedAt), Deadline: jsontime.Time(b.Deadline),
	}
}

func rough(p *booking.Place) *booking.Place {
	if p == nil {
		return nil
	}
	return new(p.Rough())
}

// nearOffer is an offer with its distance.
type nearOffer struct {
	offer
	// in a straight line; distance_m is the length of the ride
	Metres  int64 `json:"pickup_distance_m"`
	Seconds int64 `json:"waiting_seconds"`
}

// errNoPages refuses a cursor with an area: by the time of the second page, the order would be
// another.
var errNoPages = web.ErrCursor.Saying("With lat and lng there is only one page. " +
	"Use limit to get more bookings, or another radius to get others.")

// open lists the bookings that the caller may accept: with an area, the nearest first, and
// otherwise the longest waiting first. The board includes every acceptance on this instance.
func (s *Service) open(w http.ResponseWriter, r *http.Request) error {
	area, hasArea, err := bookings.ParseArea(r, s.c.Radius)
	if err != nil {
		return err
	}
	limit, cursor, err := web.Page(r, bookings.MaxPage)
	if err != nil {
		return err
	}
	if hasArea && cursor != 0 {
		return errNoPages
	}
	if err := s.board.CatchUp(r.Context()); err != nil {
		return err
	}
	now, mayAccept := s.c.Now(), board.NotReleasedBy(caller(r))
	if !hasArea {
		found := s.board.Open(now, limit+1, cursor, mayAccept)
		opened := func(b *booking.Booking) uint64 { return b.OpenedSeq }
		return web.WriteJSON(w, http.StatusOK, bookings.NewPage(found, limit, offerOf, opened))
	}
	found := s.board.Near(area.Center, area.Radius, now, limit, mayAccept)
	page := bookings.Page[nearOffer]{Bookings: make([]nearOffer, len(found))}
	for i, b := range found {
		waits := max(0, now.Sub(b.OpenedAt)) // the two times may come from different clocks
		page.Bookings[i] = nearOffer{offerOf(b.Booking), int64(math.Round(b.Metres)), int64(waits / time.Second)}
	}
	return web.WriteJSON(w, http.StatusOK, page)
}
