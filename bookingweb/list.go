package bookingweb

import (
	"net/http"
	"time"

	"pillion/booking"
	"pillion/web"
)

// Wanted returns which bookings a request for a list asks for: ?state=, ?since= and ?until=. Errors: booking.ErrInvalidState, and those of web.Words and
// web.Moment.
func Wanted(r *http.Request) ([]booking.Only, error) {
	var only []booking.Only
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
		only = append(only, booking.InState(states...))
	}
	for _, bound := range []struct {
		name string
		only func(time.Time) booking.Only
	}{{"since", booking.Since}, {"until", booking.Until}} {
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
