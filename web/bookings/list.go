package bookings

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/web"
)

// MaxPage is the most bookings on a page.
const MaxPage = 100

// A Page is one page of a list.
type Page[T any] struct {
	Bookings []T    `json:"bookings"`
	Next     string `json:"next_cursor,omitempty"` // empty on the last page
}

// NewPage returns a page of at most limit bookings, as show presents them. found holds one more if
// there is a next page, which begins after the cursor of the last booking shown.
func NewPage[T any](
	found []booking.Booking, limit int, show func(booking.Booking) T, cursor func(*booking.Booking) uint64,
) Page[T] {
	shown := found[:min(limit, len(found))]
	p := Page[T]{Bookings: make([]T, len(shown))}
	for i, b := range shown {
		p.Bookings[i] = show(b)
	}
	if len(found) > limit {
		p.Next = strconv.FormatUint(cursor(&found[limit-1]), 10)
	}
	return p
}

// A ListFunc returns at most n of the caller's bookings that were requested before a sequence,
// newest first, as [board.Board.OfUser] does.
type ListFunc func(caller string, n int, before uint64, filters ...board.Filter) []booking.Booking

// List answers with the caller's bookings, newest first, as show presents them. catchUp waits until
// the board includes what the caller wrote on this instance.
func List(catchUp func(context.Context) error, list ListFunc, show func(booking.Booking) View) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		limit, cursor, err := web.Page(r, MaxPage)
		if err != nil {
			return err
		}
		filters, err := parseFilters(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := catchUp(ctx); err != nil {
			return err
		}
		claims, _ := web.Caller(ctx)
		found := list(claims.Subject, limit+1, cursor, filters...)
		page := NewPage(found, limit, show, func(b *booking.Booking) uint64 { return b.RequestedSeq })
		return web.WriteJSON(w, http.StatusOK, page)
	}
}

// parseFilters returns the filters of a list: ?state=, ?since= and ?until=. Errors:
// booking.ErrInvalidState, and those of web.QueryList and web.QueryTime.
func parseFilters(r *http.Request) ([]board.Filter, error) {
	var filters []board.Filter
	names, err := web.QueryList(r, "state")
	if err != nil {
		return nil, err
	}
	var states []booking.State
	for _, name := range names {
		state, err := booking.ParseState(name)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	if states != nil {
		filters = append(filters, board.InState(states...))
	}
	for _, bound := range []struct {
		name   string
		filter func(time.Time) board.Filter
	}{{"since", board.Since}, {"until", board.Until}} {
		t, given, err := web.QueryTime(r, bound.name)
		if err != nil {
			return nil, err
		}
		if given {
			filters = append(filters, bound.filter(t))
		}
	}
	return filters, nil
}
