package bookingtest

import (
	"strings"

	"github.com/example/pillion/booking"
)

// refuses returns the reason against the other operations, or OK.
func (s ride) refuses(c *Call) string {
	over := s.state == booking.StateCompleted || s.state == booking.StateCancelled || s.state == booking.StateExpired
	notNow := func() string {
		if over {
			return s.loss()
		}
		return "wrong_state"
	}
	if c.Actor.Role == booking.User && c.Actor.ID != s.user {
		return "booking_not_found"
	}
	if c.Actor.Role == booking.Rider && c.Actor.ID != s.rider {
		if s.hadBy(c.Actor.ID) {
			return "released_by_you"
		}
		return "booking_not_found"
	}
	switch c.Op {
	case OpArrive:
		if s.state != booking.StateAccepted {
			return notNow()
		}
	case OpStart:
		switch {
		case s.state != booking.StateArrived:
			return notNow()
		case s.wrong >= 5:
			return "wrong_start_code"
		}
	case OpComplete:
		if s.state != booking.StateStarted {
			return notNow()
		}
	case OpRelease:
		if s.state != booking.StateAccepted && s.state != booking.StateArrived {
			return notNow()
		}
	case OpCancel:
		switch {
		case over:
			return s.loss()
		case s.state == booking.StateStarted:
			return "wrong_state"
		}
	case OpRate:
		given := s.byUser
		if c.Actor.Role == booking.Rider {
			given = s.byRider
		}
		switch {
		case s.state == booking.StateCancelled || s.state == booking.StateExpired:
			return s.loss()
		case s.state != booking.StateCompleted:
			return "wrong_state"
		case given != 0:
			return "already_rated"
		}
	}
	return OK
}

func (s ride) loss() string {
	switch s.state {
	case booking.StateCompleted:
		return "booking_completed"
	case booking.StateCancelled:
		return "booking_cancelled"
	case booking.StateExpired:
		return "booking_expired"
	}
	return "already_accepted"
}

func (s ride) isWith(rider string) bool {
	return s.rider == rider &&
		(s.state == booking.StateAccepted || s.state == booking.StateArrived || s.state == booking.StateStarted)
}

func (s ride) hadBy(rider string) bool { return strings.Contains(s.released, rider+",") }

// shows reports whether the booking in c's answer is in state s.
func (s ride) shows(c *Call) bool {
	b := c.Got
	released := ""
	for _, r := range b.ReleasedBy {
		released += string(r) + ","
	}
	if c.Partly {
		return s.state == b.State && (c.Actor.Role == booking.Rider || s.rider == string(b.Rider))
	}
	return s.state == b.State && s.user == string(b.User) && s.rider == string(b.Rider) && s.version == b.Version &&
		s.released == released &&
		s.wrong == b.WrongCodes && s.reason == b.Reason && s.byUser == b.UserStars &&
		s.byRider == b.RiderStars
}

// next returns the possible states after s, given the answer of a call.
func (s ride) next(c *Call) []any {
	if c.Answer == Contended {
		return []any{s}
	}
	var may []any
	if c.Answer == Unknown {
		may = append(may, s)
	}
	for _, o := range s.outcomes(c) {
		switch {
		case c.Answer == Unknown && o.after != s,
			c.Answer != Unknown && c.Answer == o.answer && (c.Answer != OK || o.stale || o.after.shows(c)):
			may = append(may, o.after)
		}
	}
	return may
}
