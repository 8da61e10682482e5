package bookingtest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/example/pillion/booking"
)

// What commands may be answered, one at a time: the specification that histories are held against.
// It is written down anew and shares nothing with package booking, so that a fault there is not
// repeated here.
//
// A history is not checked as a whole but once for every booking and once for every rider, each
// with the calls that concern it. That gives no false alarm: take any order of all calls that the
// whole system may have worked in; what concerns one booking, in that order, is an order that the
// booking alone may have worked in, because an answer is allowed here if it is right in the state
// of this booking (of this rider) whatever the state of everything else. And little is lost. Calls
// that concern one thing are linearizable if and only if they are for each thing by itself (Herlihy
// and Wing, theorem 1). Only an acceptance concerns two, its booking and its rider, and could be in
// order for each of them and yet at two different moments. Those are in the ledger, which has one
// order for everything, and its inspection finds them. One thing is allowed on purpose: who is told
// rider_busy was busy at one moment of the call, and the booking was open at one, which need not be
// the same.

// An Op is what a call asks for.
type Op string

// The ops.
const (
	OpShow     Op = "show"
	OpBook     Op = "book"
	OpAccept   Op = "accept"
	OpArrive   Op = "arrive"
	OpStart    Op = "start"
	OpComplete Op = "complete"
	OpCancel   Op = "cancel"
	OpRelease  Op = "release"
	OpExpire   Op = "expire"
	OpRate     Op = "rate"
)

// What a call may be answered besides success (OK) and the codes of typed losses.
const (
	OK        = ""
	Unknown   = "unknown"           // it may have happened, may happen yet, or not
	Contended = "booking_contended" // it did not happen, and why not is not said
)

// A Call is one try of one command, or a read, and what came of it.
type Call struct {
	Client  int
	Op      Op
	ID      booking.ID
	Actor   booking.Actor
	Command booking.CommandID // "" for a read

	Reason string
	Stars  int
	Right  bool          // the start code
	Wait   time.Duration // how long a booking waits for a rider, where this call opens one

	// when the command was first tried, in nanoseconds of the test's life; Begin unless this is a
	// retry
	First      int64
	Begin, End int64 // when this call began, and when it was answered
	Answer     string
	Got        booking.Booking // with success
	// Partly says that of Got only the state and the rider were told, and the rider not to riders.
	// So it is over HTTP.
	Partly bool

	tracked bool   // the command has other calls: whether it has taken effect matters to them
	did     string // how a tracked command that has taken effect is remembered
}

// Forever is when a call ends whose answer nobody knows: what it asks for may happen at any time.
const Forever = math.MaxInt64

// refused stands before what is remembered of a command whose effect is that a start code was
// refused.
const refused = "refused:"

// slack is what the wall clock, which deadlines are told by, may differ from the monotonic one
// during a test.
const slack = int64(20 * time.Millisecond)

// track notes that the command has other calls. What it asks for is a part of how it is remembered:
// another wish under the same id is refused.
func (c *Call) track() {
	what := "" // of what was given, what the op looks at
	switch c.Op {
	case OpCancel, OpRelease:
		what = c.Reason
	case OpRate:
		what = fmt.Sprint(c.Stars)
	}
	c.tracked, c.did = true, fmt.Sprintf("%s/%s/%s;", c.Command, c.Op, what)
}

// String returns the call on one line.
func (c *Call) String() string {
	end := "never"
	if c.End != Forever {
		end = fmt.Sprintf("%.3f", float64(c.End)/1e6)
	}
	answer := c.Answer
	if answer == OK {
		answer = fmt.Sprintf("ok: %s v%d of %.4s by %.4s, released by %.4s (%q), %d wrong, %d and %d stars",
			c.Got.State, c.Got.Version, c.Got.User, c.Got.Rider, c.Got.ReleasedBy, c.Got.Reason,
			c.Got.WrongCodes, c.Got.UserStars, c.Got.RiderStars)
	}
	what := string(c.Op)
	if c.Op == OpStart && !c.Right {
		what += " wrongly"
	}
	if c.First != c.Begin {
		what += " again"
	}
	return fmt.Sprintf("%9.3f to %9s ms, client %2d, %s %.4s (command %.4s): %s booking %.4s: %s", float64(c.Begin)/1e6,
		end, c.Client, c.Actor.Role, c.Actor.ID,
		c.Command, what, c.ID, answer)
}

// met reports whether the service has tried to book more than once, because the first
// acknowledgement was lost, and has met the booking that it had made: the answer is that booking as
// it was then.
func (c *Call) met() bool {
	return c.Op == OpBook && c.Answer == OK && c.Got.State != booking.StateOpen
}

// A ride is the state of one booking in the specification. Equal rides are ==.
type ride struct {
	state            booking.State
	user, rider      string
	released         string // the riders who have released it, each followed by a comma
	gaveBack         string // those of them who have done so themselves
	cancelledBy      string
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
	// a retry's success: the booking that comes with it is one since the command's first try; see
	// reads
	stale bool
}

// outcomes returns all that may come of a call in state s, as far as this booking has a say in it.
func (s ride) outcomes(c *Call) []outcome {
	no := func(answer string) []outcome { return []outcome{{answer: answer, after: s}} }
	if c.Op == OpShow {
		if s.state == booking.StateNone {
			return no("booking_not_found")
		}
		return no(OK)
	}
	if c.Op == OpBook {
		return s.book(c)
	}
	if c.tracked && strings.Contains(s.done, string(c.Command)) {
		switch {
		case strings.Contains(s.done, refused+c.did): // whatever code it brings
			return no("wrong_start_code")
		case strings.Contains(s.done, c.did):
			return []outcome{{answer: OK, after: s, stale: true}}
		}
		return no("key_reused")
	}
	if s.state == booking.StateNone {
		return no("booking_not_found")
	}
	switch c.Op {
	case OpAccept:
		return s.accept(c)
	case OpExpire:
		return s.expire(c)
	}
	if s.doneBy(c) {
		return no(OK)
	}
	if why := s.refuses(c); why != OK {
		return no(why)
	}
	after := s
	switch c.Op {
	case OpArrive:
		after.state = booking.StateArrived
	case OpStart:
		if !c.Right {
			after.wrong++
			after = after.by(c)
			if c.tracked {
				after.done = s.done + refused + c.did
			}
			return []outcome{{answer: "wrong_start_code", after: after}}
		}
		after.state = booking.StateStarted
	case OpComplete:
		after.state = booking.StateCompleted
	case OpCancel:
		after.state, after.reason, after.cancelledBy = booking.StateCancelled, c.Reason, c.Actor.ID
	case OpRelease:
		after.released += s.rider + ","
		if c.Actor.Role == booking.Rider {
			after.gaveBack += s.rider + ","
		}
		after.rider, after.wrong, after.reason = "", 0, c.Reason
		after = after.opened(c)
	case OpRate:
		if c.Actor.Role == booking.User {
			after.byUser = c.Stars
		} else {
			after.byRider = c.Stars
		}
	}
	return []outcome{{answer: OK, after: after.by(c)}}
}

// by returns s after an event that c has caused.
func (s ride) by(c *Call) ride {
	s.version++
	if c.tracked {
		s.done += c.did
	}
	return s
}

func (s ride) opened(c *Call) ride {
	s.state, s.earliest, s.latest = booking.StateOpen, c.Begin+int64(c.Wait), Forever
	if c.End != Forever {
		s.latest = c.End + int64(c.Wait)
	}
	return s
}

func (s ride) book(c *Call) []outcome {
	switch {
	case s.state == booking.StateNone:
		return []outcome{{answer: OK, after: ride{user: c.Actor.ID}.opened(c).by(c), stale: c.met()}}
	case s.user == c.Actor.ID: // the same trip: all of this test's are
		return []outcome{{answer: OK, after: s}}
	}
	return []outcome{{answer: "key_reused", after: s}}
}

func (s ride) accept(c *Call) []outcome {
	switch {
	case s.isWith(c.Actor.ID): // by another command
		return []outcome{{answer: OK, after: s}}
	case s.state != booking.StateOpen:
		return []outcome{{answer: s.loss(), after: s}}
	case s.hadBy(c.Actor.ID):
		return []outcome{{answer: "released_by_you", after: s}}
	}
	may := []outcome{{answer: "rider_busy", after: s}} // which the rider's own history says
	if c.End >= s.earliest-slack {
		may = append(may, outcome{answer: "booking_expired", after: s})
	}
	if c.Begin <= s.late() {
		after := s
		after.state, after.rider, after.reason = booking.StateAccepted, c.Actor.ID, ""
		may = append(may, outcome{answer: OK, after: after.by(c)})
	}
	return may
}

func (s ride) expire(c *Call) []outcome {
	if s.state != booking.StateOpen {
		return []outcome{{answer: s.loss(), after: s}}
	}
	var may []outcome
	if c.Begin <= s.late() {
		may = append(may, outcome{answer: "not_overdue", after: s})
	}
	if c.End >= s.earliest-slack {
		after := s
		after.state = booking.StateExpired
		may = append(may, outcome{answer: OK, after: after.by(c)})
	}
	return may
}

func (s ride) late() int64 {
	if s.latest == Forever {
		return Forever
	}
	return s.latest + slack
}

// doneBy reports whether the actor has done already what it asks for, by another command.
func (s ride) doneBy(c *Call) bool {
	by := c.Actor.ID
	switch c.Op {
	case OpArrive:
		return s.isWith(by) && s.state != booking.StateAccepted
	case OpStart:
		return s.isWith(by) && s.state == booking.StateStarted
	case OpComplete:
		return s.state == booking.StateCompleted && s.rider == by
	case OpCancel:
		return c.Actor.Role == booking.User && s.cancelledBy == by
	case OpRelease:
		return strings.Contains(s.gaveBack, by+",")
	case OpRate:
		return c.Actor.Role == booking.User && s.user == by && s.byUser == c.Stars && c.Stars != 0 ||
			c.Actor.Role == booking.Rider && s.rider == by && s.byRider == c.Stars && c.Stars != 0
	}
	return false
}
