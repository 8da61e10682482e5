package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/example/pillion/booking"
)

// An Op is something that people do.
type Op string

// What people do.
const (
	Register  Op = "register"
	Login     Op = "login"
	Refresh   Op = "refresh"
	Book      Op = "book"
	Cancel    Op = "cancel"
	Show      Op = "show" // the user reads the start code
	UserRate  Op = "rate_by_user"
	Online    Op = "online"
	Offline   Op = "offline"
	Position  Op = "position"
	Browse    Op = "open_bookings"
	Accept    Op = "accept"
	Resume    Op = "resume" // the rider looks which booking is under way
	Arrive    Op = "arrive"
	Start     Op = "start"
	Complete  Op = "complete"
	Release   Op = "release"
	RiderRate Op = "rate_by_raider"
)

// An Outcome is what became of a call.
type Outcome string

// What becomes of calls. Only of the first it is certain that what was asked for is done, and of Unknown and Violation it is not known.
const (
	Done        Outcome = "done"        // 2xx
	Refused     Outcome = "refused"     // 4xx with a reason that belongs to the game: somebody was faster, there is none, too late
	Limited     Outcome = "limited"     // 429 with Retry-After
	Away        Outcome = "away"        // 503 with Retry-After
	Unreachable Outcome = "unreachable" // nobody could be connected to, so nothing was asked
	Unknown     Outcome = "unknown"     // it was asked, and no answer came
	Expired     Outcome = "expired"     // the token ran out on the way
	Violation   Outcome = "violation"   // an answer that nobody should get
)

// A Call is one request and its answer. Several may be tries of the same step: they have the same Key.
type Call struct {
	Op       Op         `json:"op"`
	Actor    string     `json:"actor"` // the account's id
	Booking  booking.ID `json:"booking_id,omitempty"`
	Key      string     `json:"key,omitempty"` // its Idempotency-Key
	Try      int        `json:"try"`           // from 1
	Instance string     `json:"instance"`      // base URL
	Due      time.Time  `json:"due"`           // when the step was meant to begin
	Start    time.Time  `json:"start"`         // when this call was sent
	End      time.Time  `json:"end"`
	Outcome  Outcome    `json:"outcome"`
	Status   int        `json:"status,omitempty"` // 0: there was no answer
	Code     string     `json:"code,omitempty"`   // of a refusal, or of a failure
	Detail   string     `json:"detail,omitempty"` // of a violation, and of what broke
}

// A step is what somebody wants done, in one call or as many as it takes.
type step struct {
	op      Op
	method  string
	hosts   []string
	path    string
	body    any
	key     string     // Idempotency-Key; with one it may be asked again when the outcome is unknown
	again   bool       // so it may without one
	open    bool       // no token goes with it
	booking booking.ID // what it is about, as far as that is known
	due     time.Time
	kind    booking.Kind // the event that it makes
	perhaps bool         // an earlier step may have made it already, and then this one makes none and is told success
	into    any          // where a 2xx answer is read into; an *acceptance tells the booking
}

// A result is what a step has come to: its last call.
type result struct{ Call }

func (r result) done() bool { return r.Outcome == Done }

var (
	errAgain = errors.New("to be tried again")
	errEnd   = errors.New("that is how it ends")
)

// do takes a step for an actor until it is decided or patience ends. Who is told when to come back comes back then, and not before.
func (a *actor) do(ctx context.Context, s step) result {
	ctx, cancel := context.WithTimeout(ctx, a.run.Patience)
	defer cancel()
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.MaxInterval = 50*time.Millisecond, time.Second
	var last Call
	try := func() (struct{}, error) {
		if !a.quiet(ctx) {
			return struct{}{}, backoff.Permanent(ctx.Err())
		}
		tries := last.Try
		var wait time.Duration
		last, wait = a.ask(ctx, s)
		last.Try = tries + 1
		if last.Code == invalidToken && a.outdated(last.Start) {
			last.Outcome, last.Detail = Expired, ""
		}
		a.run.stats.call(last)
		switch {
		case last.Outcome == Limited || last.Outcome == Away:
			a.backoffUntil(wait)
			return struct{}{}, &backoff.RetryAfterError{Duration: wait}
		case last.Outcome == Unreachable, last.Outcome == Expired, last.Outcome == Unknown && (s.again || s.key != ""):
			return struct{}{}, errAgain
		}
		return struct{}{}, backoff.Permanent(errEnd)
	}
	_, _ = backoff.Retry(ctx, try, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(a.run.Patience)) // what it came to is in last
	if last.Try == 0 {                                                                                    // there was no token, or no time
		last = Call{Op: s.op, Actor: a.id, Booking: s.booking, Key: s.key, Due: s.due, Start: time.Now(), End: time.Now(), Outcome: Unreachable}
	}
	a.run.stats.step(last)
	if last.Outcome == Done && s.kind != "" {
		a.run.stats.acknowledge(a.acknowledged(s, last))
	}
	return result{last}
}

const invalidToken = "invalid_token"

// answerLimit is more than any answer has, in bytes.
const answerLimit = 1 << 20

// ask makes one call. It returns also how long the answer says to wait.
func (a *actor) ask(ctx context.Context, s step) (c Call, wait time.Duration) {
	c = Call{Op: s.op, Actor: a.id, Booking: s.booking, Key: s.key, Due: s.due, Instance: a.instance(s.hosts)}
	bearer := ""
	if !s.open {
		var ok bool
		if bearer, ok = a.bearer(ctx); !ok {
			c.Start = time.Now()
			c.End, c.Outcome, c.Detail = c.Start, Unreachable, "no token could be had"
			return c, 0
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.run.Timeout)
	defer cancel()
	var body []byte
	if s.body != nil {
		body, _ = json.Marshal(s.body) // maps of text and numbers
	}
	req, err := http.NewRequestWithContext(ctx, s.method, c.Instance+s.path, strings.NewReader(string(body)))
	if err != nil {
		c.Outcome, c.Detail = Violation, err.Error()
		return c, 0
	}
	req.Header.Set("Accept", "application/json")
	if s.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		req.Header.Set("Idempotency-Key", s.key)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	var connected atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}))
	c.Start = time.Now()
	resp, err := a.run.HTTP.Do(req)
	var got []byte
	if err == nil {
		got, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit))
		_ = resp.Body.Close() // it has been read
	}
	c.End = time.Now()
	if err != nil {
		c.Outcome, c.Detail = Unknown, err.Error()
		if dialing(err) && !connected.Load() { // net/http sends a request with a key once more by itself where a connection that it had kept breaks
			c.Outcome = Unreachable
		}
		return c, 0
	}
	return c.judge(s, resp, got)
}

// dialing reports whether it failed to connect.
func dialing(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// judge says what an answer is.
func (c Call) judge(s step, resp *http.Response, body []byte) (Call, time.Duration) {
	c.Status = resp.StatusCode
	if c.Status/100 == 2 {
		c.Outcome = Done
		if s.into != nil {
			if err := json.Unmarshal(body, s.into); err != nil {
				c.Outcome, c.Detail = Violation, "the answer cannot be read: "+err.Error()
			}
		}
		if b, ok := s.into.(*bookingAnswer); ok && c.Outcome == Done {
			switch {
			case !booking.ValidID(string(b.Booking)):
				c.Outcome, c.Detail = Violation, "the answer names no booking"
			case s.booking != "" && b.Booking != s.booking:
				c.Outcome, c.Detail = Violation, "the answer is about booking "+string(b.Booking)
			}
			c.Booking = b.Booking
		}
		return c, 0
	}
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(body, &problem) // what is no problem has no code
	c.Code = problem.Code
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	told := err == nil && seconds > 0
	switch {
	case c.Status == http.StatusTooManyRequests && told:
		c.Outcome = Limited
	case c.Status == http.StatusServiceUnavailable && told:
		c.Outcome = Away
	case expected(s.op, c.Status, c.Code):
		c.Outcome = Refused
	default:
		c.Outcome, c.Detail = Violation, fmt.Sprintf("answered with %d, code %q, Retry-After %q", c.Status, c.Code, resp.Header.Get("Retry-After"))
	}
	return c, time.Duration(seconds) * time.Second
}

// expected reports whether it belongs to the game to be refused so.
func expected(op Op, status int, code string) bool {
	switch status {
	case http.StatusNotFound:
		return code == "no_open_bookings" && op == Accept
	case http.StatusForbidden:
		return code == "not_your_booking" && op != Book // the system has given it to others
	case http.StatusUnauthorized:
		return op == Refresh || op == Login
	case http.StatusConflict:
		return code != "" && op != Book && code != "wrong_start_code" // riders say what the user reads
	}
	return false
}
