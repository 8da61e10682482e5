package ridersvc

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// offer is a booking as riders see it: the ride, and nothing of the user.
type offer struct {
	Booking booking.ID     `json:"booking_id"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
	*booking.Quote
	OpenedAt jsontime.Time `json:"opened_at"` // since when it waits
	Deadline jsontime.Time `json:"deadline"`  // until when it may be accepted
}

func offerOf(b booking.Booking) offer {
	return offer{Booking: b.ID, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote, OpenedAt: jsontime.Time(b.OpenedAt), Deadline: jsontime.Time(b.Deadline)}
}

type openAnswer struct {
	Bookings []offer `json:"bookings"`
	Next     string  `json:"next_cursor,omitempty"`
}

// near is an offer with how near it is.
type near struct {
	offer
	Metres  int64 `json:"pickup_distance_m"` // as the crow flies; distance_m is how long the ride is
	Seconds int64 `json:"waiting_seconds"`
}

type nearAnswer struct {
	Bookings []near `json:"bookings"`
}

// errNoPages is said to who asks for the next page of what is near: it would be another list by then.
var errNoPages = web.ErrCursor.Saying("With lat and lng there is one page only. Ask for more with limit, and for others with another radius.")

// open shows what may be accepted: around the place that the caller names, nearest first, or else everywhere, longest waiting first.
func (s *Service) open(w http.ResponseWriter, r *http.Request) error {
	area, around, err := web.ParseArea(r, s.radius, MaxRadius)
	if err != nil {
		return err
	}
	if around {
		return s.openAround(w, r, area)
	}
	return s.openAll(w, r)
}

func (s *Service) openAround(w http.ResponseWriter, r *http.Request, area web.Area) error {
	limit, cursor, err := web.Page(r, bookingweb.MaxPage)
	if err != nil {
		return err
	}
	if cursor != 0 {
		return errNoPages
	}
	if err := s.catchUp(r.Context()); err != nil {
		return err
	}
	now := s.now()
	found := s.board.Near(booking.Place{Lat: area.Lat, Lng: area.Lng}, area.Radius, now, limit, mayHave(r))
	answer := nearAnswer{Bookings: make([]near, len(found))}
	for i, b := range found {
		waits := max(0, now.Sub(b.OpenedAt)) // by another clock
		answer.Bookings[i] = near{offerOf(b.Booking), int64(math.Round(b.Metres)), int64(waits / time.Second)}
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}

// mayHave leaves out what the caller cannot accept any more.
func mayHave(r *http.Request) board.Filter {
	claims, _ := web.Caller(r.Context())
	return board.NotReleasedBy(booking.RiderID(claims.Subject))
}

// trusted returns nil when the board is what it must be.
func (s *Service) trusted(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}

// catchUp waits until the board can be trusted and includes this process's own writes.
func (s *Service) catchUp(ctx context.Context) error {
	if err := s.trusted(ctx); err != nil {
		return err
	}
	return s.reach(ctx, s.ledger.Appended())
}

// openAll shows what may be accepted, longest waiting first, from the board. What was accepted on this instance is not in it.
func (s *Service) openAll(w http.ResponseWriter, r *http.Request) error {
	limit, cursor, err := web.Page(r, bookingweb.MaxPage)
	if err != nil {
		return err
	}
	if err := s.catchUp(r.Context()); err != nil {
		return err
	}
	found := s.board.Open(s.now(), limit+1, cursor, mayHave(r))
	answer := openAnswer{Bookings: make([]offer, 0, min(limit, len(found)))}
	for _, b := range found[:min(limit, len(found))] {
		answer.Bookings = append(answer.Bookings, offerOf(b))
	}
	if len(found) > limit {
		answer.Next = strconv.FormatUint(found[limit-1].OpenedSeq, 10)
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}
