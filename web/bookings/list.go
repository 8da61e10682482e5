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

// MaxPage is how many bookings one answer lists at most.
const MaxPage = 100

type page[T any] struct {
	Bookings []T    `json:"bookings"`
	Next     string `json:"next_cursor,omitempty"`
}

// List answers with a caller's bookings, newest first, as show has them. catchUp waits until the board has what the caller wrote on this instance; of returns so many of
// the caller's bookings that were asked for before a sequence, as [board.Board.OfUser] does.
func List[T any](catchUp func(context.Context) error, of func(caller string, most int, before uint64, only ...board.Filter) []booking.Booking, show func(booking.Booking) T) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		limit, cursor, err := web.Page(r, MaxPage)
		if err != nil {
			return err
		}
		only, err := wanted(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := catchUp(ctx); err != nil {
			return err
		}
		claims, _ := web.Caller(ctx)
		found := of(claims.Subject, limit+1, cursor, only...)
		answer := page[T]{Bookings: make([]T, 0, min(limit, len(found)))}
		for _, b := range found[:min(limit, len(found))] {
			answer.Bookings = append(answer.Bookings, show(b))
		}
		if len(found) > limit {
			answer.Next = strconv.FormatUint(found[limit-1].RequestedSeq, 10)
		}
		return web.WriteJSON(w, http.StatusOK, answer)
	}
}

// wanted returns which bookings a request for a list asks for: ?state=, ?since= and ?until=. Errors: booking.ErrInvalidState, and those of web.Words and
// web.Moment.
func wanted(r *http.Request) ([]board.Filter, error) {
	var only []board.Filter
	names, err := web.Words(r, "state")
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
		only = append(only, board.InState(states...))
	}
	for _, bound := range []struct {
		name string
		only func(time.Time) board.Filter
	}{{"since", board.Since}, {"until", board.Until}} {
		t, given, err := web.Moment(r, bound.name)
		if err != nil {
			return nil, err
		}
		if given {
			only = append(only, bound.only(t))
		}
	}
	return only, nil
}
