package bus_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"pillion/booking"
)

// What commands may be answered, one at a time: the specification that histories are held against. It is written down anew and shares nothing
// with package booking, so that a fault there is not repeated here.
//
// A history is not checked as a whole but once for every booking and once for every rider, each with the calls that concern it. That gives no
// false alarm: take any order of all calls that the whole system may have worked in; what concerns one booking, in that order, is an order that
// the booking alone may have worked in, because an answer is allowed here if it is right in the state of this booking (of this rider) whatever
// the state of everything else. And little is lost. Calls that concern one thing are linearizable if and only if they are for each thing by itself
// (Herlihy and Wing, theorem 1). Only an acceptance concerns two, its booking and its rider, and could be in order for each of them and yet
// at two different moments. Those are in the ledger, which has one order for everything, and its inspection finds them. One thing is allowed on
// purpose: who is told rider_busy was busy at one moment of the call, and the booking was open at one, which need not be the same.

// An op is what a call asks for.
type op string

const (
	opShow     op = "show"
	opBook     op = "book"
	opAccept   op = "accept"
	opArrive   op = "arrive"
	opStart    op = "start"
	opComplete op = "complete"
	opCancel   op = "cancel"
	opRelease  op = "release"
	opExpire   op = "expire"
	opRate     op = "rate"
)

// What a call may be answered besides success (ok) and the codes of typed losses.
const (
	ok        = ""
	unknown   = "unknown"           // it may have happened, may happen yet, or not
	contended = "booking_contended" // it did not happen, and why not is not said
)

// A call is one try of one command, or a read, and what came of it.
type call struct {
	client  int
	op      op
	id      booking.ID
	actor   booking.Actor
	command booking.CommandID // "" for a read

	reason string
	stars  int
	right  bool          // the start code
	hasty  bool          // waits for nobody
	wait   time.Duration // how long a booking waits for a rider, where this call opens one

	first      int64 // when the command was first tried, in nanoseconds of the test's life; begin unless this is a retry
	begin, end int64 // when this call began, and when it was answered
	answer     string
	got        booking.Booking // with success

	tracked bool   // the command has other calls: whether it has taken effect matters to them
	did     string // how a tracked command that has taken effect is remembered
}

const forever = math.MaxInt64

// refused stands before what is remembered of a command whose effect is that a start code was refused.
const refused = "refused:"

// slack is what the wall clock, which deadlines are told by, may differ from the monotonic one during a test.
const slack = int64(20 * time.Millisecond)

// track notes that the command has other calls. What it asks for is a part of how it is remembered: another wish under the same id is refused.
func (c *call) track() {
	what := "" // of what was given, what the op looks at
	switch c.op {
	case opCancel, opRelease:
		what = c.reason
	case opRate:
		what = fmt.Sprint(c.stars)
	}
	c.tracked, c.did = true, fmt.Sprintf("%s/%s/%s;", c.command, c.op, what)
}

func (c *call) String() string {
	end := "never"
	if c.end != forever {
		end = fmt.Sprintf("%.3f", float64(c.end)/1e6)
	}
	answer := c.answer
	if answer == ok {
		answer = fmt.Sprintf("ok: %s v%d of %.4s by %.4s, released by %.4s (%q), %d wrong, %d and %d stars", c.got.State, c.got.Version, c.got.User, c.got.Rider, c.got.ReleasedBy, c.got.Reason,
			c.got.WrongCodes, c.got.UserStars, c.got.RiderStars)
	}
	what := string(c.op)
	if c.op == opStart && !c.right {
		what += " wrongly"
	}
	if c.first != c.begin {
		what += " again"
	}
	return fmt.Sprintf("%9.3f to %9s ms, client %2d, %s %.4s (command %.4s): %s booking %.4s: %s", float64(c.begin)/1e6, end, c.client, c.actor.Role, c.actor.ID,
		c.command, what, c.id, answer)
}

// A ride is the state of one booking in the specification. Equal rides are ==.
type ride struct {
	state            booking.State
	user, rider      string
	released         string // the riders who have released it, each followed by a comma
	reason           string
	version, wrong   int
	byUser, byRider  int   // stars
	earliest, latest int64 // between them lies the deadline
	done             string
}

// An outcome is one thing that may come of a call.
type outcome struct {
	answer string
	after  ride
	stale  bool // a retry's success: the booking that comes with it is one since the command's first try; see reads
}

// outcomes returns all that may come of a call in state s, as far as this booking has a say in it.
func (s ride) outcomes(c *call) []outcome {
	no := func(answer string) []outcome { return []outcome{{answer: answer, after: s}} }
	if c.op == opShow {
		if s.state == booking.StateNone {
			return no("booking_not_found")
		}
		return no(ok)
	}
	if c.op == opBook {
		return s.book(c)
	}
	if c.tracked && strings.Contains(s.done, string(c.command)) {
		switch {
		case strings.Contains(s.done, refused+c.did):
			if c.right { // it asks for something else now, unless it was opened anew since: then that code is none any more
				return append(no("key_reused"), no("wrong_start_code")...)
			}
			return no("wrong_start_code")
		case c.op == opStart && !c.right && strings.Contains(s.done, c.did):
			return no("key_reused")
		case strings.Contains(s.done, c.did):
			return []outcome{{answer: ok, after: s, stale: true}}
		}
		return no("key_reused")
	}
	if s.state == booking.StateNone {
		return no("booking_not_found")
	}
	switch c.op {
	case opAccept:
		return s.accept(c)
	case opExpire:
		return s.expire(c)
	}
	if why := s.refuses(c); why != ok {
		return no(why)
	}
	after := s
	switch c.op {
	case opArrive:
		after.state = booking.StateArrived
	case opStart:
		if !c.right {
			after.wrong++
			after = after.by(c)
			if c.tracked {
				after.done = s.done + refused + c.did
			}
			return []outcome{{answer: "wrong_start_code", after: after}}
		}
		after.state = booking.StateStarted
	case opComplete:
		after.state = booking.StateCompleted
	case opCancel:
		after.state, after.reason = booking.StateCancelled, c.reason
	case opRelease:
		after.released += s.rider + ","
		after.rider, after.wrong, after.reason = "", 0, c.reason
		after = after.opened(c)
	case opRate:
		if c.actor.Role == booking.User {
			after.byUser = c.stars
		} else {
			after.byRider = c.stars
		}
	}
	return []outcome{{answer: ok, after: after.by(c)}}
}

// by returns s after an event that c has caused.
func (s ride) by(c *call) ride {
	s.version++
	if c.tracked {
		s.done += c.did
	}
	return s
}

func (s ride) opened(c *call) ride {
	s.state, s.earliest, s.latest = booking.StateOpen, c.begin+int64(c.wait), forever
	if c.end != forever {
		s.latest = c.end + int64(c.wait)
	}
	return s
}

func (s ride) book(c *call) []outcome {
	switch {
	case s.state == booking.StateNone:
		return []outcome{{answer: ok, after: ride{user: c.actor.ID}.opened(c).by(c)}}
	case s.user == c.actor.ID: // the same trip: all of this test's are
		return []outcome{{answer: ok, after: s}}
	}
	return []outcome{{answer: "key_reused", after: s}}
}

func (s ride) accept(c *call) []outcome {
	switch {
	case s.isWith(c.actor.ID): // by another command
		return []outcome{{answer: ok, after: s}}
	case s.state != booking.StateOpen:
		return []outcome{{answer: s.loss(), after: s}}
	case s.hadBy(c.actor.ID):
		return []outcome{{answer: "released_by_you", after: s}}
	}
	may := []outcome{{answer: "rider_busy", after: s}} // which the rider's own history says
	if c.end >= s.earliest-slack {
		may = append(may, outcome{answer: "booking_expired", after: s})
	}
	if c.begin <= s.late() {
		after := s
		after.state, after.rider, after.reason = booking.StateAccepted, c.actor.ID, ""
		may = append(may, outcome{answer: ok, after: after.by(c)})
	}
	return may
}

func (s ride) expire(c *call) []outcome {
	if s.state != booking.StateOpen {
		return []outcome{{answer: s.loss(), after: s}}
	}
	var may []outcome
	if c.begin <= s.late() {
		may = append(may, outcome{answer: "not_overdue", after: s})
	}
	if c.end >= s.earliest-slack {
		after := s
		after.state = booking.StateExpired
		may = append(may, outcome{answer: ok, after: after.by(c)})
	}
	return may
}

func (s ride) late() int64 {
	if s.latest == forever {
		return forever
	}
	return s.latest + slack
}

// refuses returns why what is left may not happen, or ok.
func (s ride) refuses(c *call) string {
	over := s.state == booking.StateCompleted || s.state == booking.StateCancelled || s.state == booking.StateExpired
	notNow := func() string {
		if over {
			return s.loss()
		}
		return "wrong_state"
	}
	if c.actor.Role == booking.User && c.actor.ID != s.user {
		return "not_your_booking"
	}
	if c.actor.Role == booking.Rider && c.actor.ID != s.rider {
		if s.hadBy(c.actor.ID) {
			return "released_by_you"
		}
		return "not_your_booking"
	}
	switch c.op {
	case opArrive:
		if s.state != booking.StateAccepted {
			return notNow()
		}
	case opStart:
		switch {
		case s.state != booking.StateArrived:
			return notNow()
		case s.wrong >= 5:
			return "wrong_start_code"
		}
	case opComplete:
		if s.state != booking.StateStarted {
			return notNow()
		}
	case opRelease:
		if s.state != booking.StateAccepted && s.state != booking.StateArrived {
			return notNow()
		}
	case opCancel:
		switch {
		case over:
			return s.loss()
		case s.state == booking.StateStarted && c.actor.Role != booking.Service:
			return "wrong_state"
		}
	case opRate:
		given := s.byUser
		if c.actor.Role == booking.Rider {
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
	return ok
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
	return s.rider == rider && (s.state == booking.StateAccepted || s.state == booking.StateArrived || s.state == booking.StateStarted)
}

func (s ride) hadBy(rider string) bool { return strings.Contains(s.released, rider+",") }

// shows reports whether b is the booking in state s.
func (s ride) shows(b booking.Booking) bool {
	released := ""
	for _, r := range b.ReleasedBy {
		released += string(r) + ","
	}
	return s.state == b.State && s.user == string(b.User) && s.rider == string(b.Rider) && s.version == b.Version && s.released == released &&
		s.wrong == b.WrongCodes && s.reason == b.Reason && s.byUser == b.UserStars && s.byRider == b.RiderStars
}

// next returns the states that may come after s where a call was answered as it was.
func (s ride) next(c *call) []any {
	if c.answer == contended {
		return []any{s}
	}
	var may []any
	if c.answer == unknown {
		may = append(may, s)
	}
	for _, o := range s.outcomes(c) {
		switch {
		case c.answer == unknown && o.after != s, c.answer != unknown && c.answer == o.answer && (c.answer != ok || o.stale || o.after.shows(c.got)):
			may = append(may, o.after)
		}
	}
	return may
}

// A duty is the state of one rider in the specification.
type duty struct {
	ride booking.ID // under way for it; "" while free
	done string
}

// next returns the states that may come after s where a call was answered as it was, as far as rider r has a say in it.
func (s duty) next(c *call, r string) []any {
	own := c.actor.ID == r
	mine := s.ride == c.id
	switch c.op {
	case opShow, opArrive, opStart:
		if (string(c.got.Rider) == r && c.got.State != booking.StateCompleted && c.got.State != booking.StateCancelled) != mine {
			return nil
		}
		return []any{s}
	case opAccept:
		if c.answer == "rider_busy" {
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
	case c.op == opAccept && s.ride == "":
		after.ride = c.id
	case c.op == opAccept && mine: // by another command
		after = s
	case c.op == opAccept, own && !mine: // impossible
		if c.answer == unknown {
			return []any{s}
		}
		return nil
	case mine:
		after.ride = ""
	}
	if c.answer == unknown {
		return []any{s, after}
	}
	return []any{after}
}

// begins reports whether a call may have engaged the rider in its booking.
func (c *call) begins(r string) bool {
	return c.op == opAccept && c.actor.ID == r && (c.answer == ok || c.answer == unknown)
}

// concerns reports whether a call says something about a rider who may have had some bookings, or changes it.
func (c *call) concerns(r string, had []booking.ID) bool {
	if c.op == opAccept {
		return c.actor.ID == r && (c.answer == ok || c.answer == unknown || c.answer == "rider_busy")
	}
	if !slices.Contains(had, c.id) {
		return false
	}
	switch c.op {
	case opShow:
		return c.answer == ok
	case opArrive, opStart:
		return c.answer == ok && c.actor.ID == r && c.first == c.begin
	case opComplete, opCancel, opRelease:
		return (c.answer == ok || c.answer == unknown) && (c.actor.Role != booking.Rider || c.actor.ID == r)
	}
	return false
}
