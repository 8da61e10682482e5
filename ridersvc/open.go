package ridersvc

import (
	"net/http"
	"strconv"
	"time"

	"pillion/booking"
	"pillion/web"
)

// maxPage is how many open bookings one answer lists at most.
const maxPage = 100

// offer is a booking as riders see it: the ride, and nothing of the user.
type offer struct {
	Booking booking.ID     `json:"booking_id"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
	*booking.Quote
	OpenedAt time.Time `json:"opened_at"` // since when it waits
	Deadline time.Time `json:"deadline"`  // until when it may be accepted
}

func offerOf(b booking.Booking) offer {
	return offer{Booking: b.ID, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote, OpenedAt: b.OpenedAt.UTC(), Deadline: b.Deadline.UTC()}
}

type openAnswer struct {
	Bookings []offer `json:"bookings"`
	Next     string  `json:"next_cursor,omitempty"`
}

// open shows what may be accepted, longest waiting first, from the board. What was accepted on this instance is not in it.
func (s *Service) open(w http.ResponseWriter, r *http.Request) error {
	limit, cursor, err := web.Page(r, maxPage)
	if err != nil {
		return err
	}
	ctx := r.Context()
	if err := s.ready(ctx); err != nil {
		return ErrCatchingUp.Because(err)
	}
	if err := s.reach(ctx, s.ledger.Appended()); err != nil {
		return err
	}
	found := s.board.Open(s.now(), limit+1, cursor)
	answer := openAnswer{Bookings: make([]offer, 0, min(limit, len(found)))}
	for _, b := range found[:min(limit, len(found))] {
		answer.Bookings = append(answer.Bookings, offerOf(b))
	}
	if len(found) > limit {
		answer.Next = strconv.FormatUint(found[limit-1].OpenedSeq, 10)
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}
