package bookingtest

import (
	"slices"
	"strings"

	"github.com/example/pillion/booking"
)

// A duty is the state of a rider in the specification.
type duty struct {
	ride booking.ID // the unfinished ride; "": none
	had  string     // earlier rides, each followed by a comma
	done string
}

// next returns the possible states after s, given the answer of a call, as far as rider r decides
// them.
func (s duty) next(c *Call, r string) []any {
	own := c.Actor.ID == r
	mine := s.ride == c.ID
	switch c.Op {
	case OpShow, OpArrive, OpStart:
		if (string(c.Got.Rider) == r && c.Got.State != booking.StateCompleted &&
			c.Got.State != booking.StateCancelled) != mine {
			return nil
		}
		return []any{s}
	case OpAccept:
		if c.Answer == "rider_busy" {
			if s.ride == "" || mine {
				return nil
			}
			return []any{s}
		}
	}
	if c.tracked && strings.Contains(s.done, c.did) {
		return []any{s}
	}
	after := s
	if c.tracked {
		after.done += c.did
	}
	switch {
	case c.Op == OpAccept && s.ride == "":
		after.ride = c.ID
	case c.Op == OpAccept && mine: // by another command
		after = s
	// the booking's history decides
	case own && c.Op != OpAccept && !mine && strings.Contains(s.had, string(c.ID)+","):
		return []any{s}
	case c.Op == OpAccept, own && !mine: // impossible
		if c.Answer == Unknown {
			return []any{s}
		}
		return nil
	case mine:
		after.ride, after.had = "", s.had+string(c.ID)+","
	}
	if c.Answer == Unknown {
		return []any{s, after}
	}
	return []any{after}
}

// begins reports whether a call may have given the rider its booking.
func (c *Call) begins(r string) bool {
	return c.Op == OpAccept && c.Actor.ID == r && (c.Answer == OK || c.Answer == Unknown)
}

// concerns reports whether a call depends on or changes the state of a rider with some bookings.
func (c *Call) concerns(r string, had []booking.ID) bool {
	if c.Op == OpAccept {
		return c.Actor.ID == r && (c.Answer == OK || c.Answer == Unknown || c.Answer == "rider_busy")
	}
	if !slices.Contains(had, c.ID) {
		return false
	}
	switch c.Op {
	case OpShow:
		return c.Answer == OK
	case OpArrive, OpStart:
		return c.Answer == OK && c.Actor.ID == r && c.First == c.Begin
	case OpComplete, OpCancel, OpRelease:
		return (c.Answer == OK || c.Answer == Unknown) && (c.Actor.Role != booking.Rider || c.Actor.ID == r)
	}
	return false
}
