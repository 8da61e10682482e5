package bookingtest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/example/pillion/booking"
)

// This file is the sequential specification: the possible answers to calls that run one at a time.
// It shares no code with package booking, so that it does not repeat faults.
//
// CheckCalls checks the calls about each booking and about each rider separately. That raises no
// false alarm. Take an order of all calls in which the whole system may have worked: its
// restriction to one booking is an order for the booking alone, because the specification permits
// every answer that is right for that booking, whatever the state of everything else. And it misses
// little. Calls about one object each are linearizable if and only if the calls about each object
// are (Herlihy and Wing, theorem 1). Only an acceptance concerns two objects, its booking and its
// rider, and might take effect for them at two different moments. The inspection of the ledger
// finds that, because the ledger has one order. One case is permitted on purpose: rider_busy
// requires that the rider was busy at one moment of the call, and that the booking was open at one,
// perhaps another.

// An Op is the operation of a call.
type Op string

// The operations.
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

// Answers to a call besides the codes of refusals.
const (
	OK        = ""
	Unknown   = "unknown"           // the call may have taken effect, or may yet
	Contended = "booking_contended" // the call took no effect, for an unknown reason
)

// A Call is one try of a command, or a read, with its answer.
type Call struct {
	Client  int
	Op      Op
	ID      booking.ID
	Actor   booking.Actor
	Command booking.CommandID // "" for a read

	Reason string
	Stars  int
	Right  bool          // whether the start code is right
	Wait   time.Duration // time until the deadline, if this call opens the booking

	// time of the command's first try, in nanoseconds since the test began; Begin unless this is a
	// retry
	First      int64
	Begin, End int64 // times of this call and its answer
	Answer     string
	Got        booking.Booking // if the call succeeded
	// Partly says that Got has only the state and, for users, the rider. That is what HTTP returns.
	Partly bool

	tracked bool   // the command has other calls, which depend on whether it took effect
	did     string // the entry of a tracked command that took effect
}

// Forever is the end of a call with an unknown answer, which may take effect at any time.
const Forever = math.MaxInt64

// refused is the prefix of the entry of a command with a wrong start code.
const refused = "refused:"

// slack is how far the wall clock, which decides on deadlines, may drift from the monotonic clock.
const slack = int64(20 * time.Millisecond)

// track notes that the command has other calls. Its entry includes the request, because the same id
// for another request is refused.
func (c *Call) track() {
	what := "" // the arguments that the operation uses
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
		answer = fmt.Sprintf(
			"ok: %s v%d of %.4s by %.4s, released by %.4s (%q), %d wrong, %d and %d stars",
			c.Got.State,
			c.Got.Version,
			c.Got.User,
			c.Got.Rider,
			c.Got.ReleasedBy,
			c.Got.Reason,
			c.Got.WrongCodes,
			c.Got.UserStars,
			c.Got.RiderStars,
		)
	}
	what := string(c.Op)
	if c.Op == OpStart && !c.Right {
		what += " wrongly"
	}
	if c.First != c.Begin {
		what += " again"
	}
	return fmt.Sprintf(
		"%9.3f to %9s ms, client %2d, %s %.4s (command %.4s): %s booking %.4s: %s",
		float64(c.Begin)/1e6,
		end,
		c.Client,
		c.Actor.Role,
		c.Actor.ID,
		c.Command,
		what,
		c.ID,
		answer,
	)
}

// met reports whether the service retried after a lost acknowledgement and found its own booking.
// The answer is that booking as it was then.
func (c *Call) met() bool {
	return c.Op == OpBook && c.Answer == OK && c.Got.State != booking.StateOpen
}

// A ride is the state of one booking in the specification. Equal rides are ==.
type ride struct {
	state            booking.State
	user, rider      string
	released         string // riders who lost it, each followed by a comma
	gaveBack         string // those of them who released it themselves
	cancelledBy      string
	reason           string
	version, wrong   int
	byUser, byRider  int   // stars
	earliest, latest int64 // bounds of the deadline
	done             string
}

// An outcome is one possible result of a call.
type outcome struct {
	answer string
	after  ride
	// a retry succeeded: its booking may be from any moment since the first try; see reads
	stale bool
}

// outcomes returns the possible results of a call in state s, as far as this booking decides them.
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
		case strings.Contains(s.done, refused+c.did): // whatever the code
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
		// Where the rider is, and whether an instance knows it, is outside the specification.
		return []outcome{{answer: OK, after: after.by(c)}, {answer: "position_unknown", after: s},
			{answer: "not_at_pickup", after: s}}
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

// by returns s after an event of c.
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
	case s.user == c.Actor.ID: // the trip is the same: all trips of these tests are
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
	may := []outcome{{answer: "rider_busy", after: s}} // the rider's own history decides
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

// doneBy reports whether the actor has done what c asks for by another command.
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
