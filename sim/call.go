package sim

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

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/retry"
)

// An Op is an operation of a user or a rider.
type Op string

// The operations.
const (
	Register  Op = "register"
	Login     Op = "login"
	Refresh   Op = "refresh"
	Book      Op = "book"
	Cancel    Op = "cancel"
	Show      Op = "show" // a user reads the start code
	UserRate  Op = "rate_by_user"
	Online    Op = "online"
	Offline   Op = "offline"
	Position  Op = "position"
	Browse    Op = "open_bookings"
	Accept    Op = "accept"
	Resume    Op = "resume" // a rider looks up its current booking
	Arrive    Op = "arrive"
	Start     Op = "start"
	Complete  Op = "complete"
	Release   Op = "release"
	RiderRate Op = "rate_by_raider"
)

// An Outcome is the result of a call.
type Outcome string

// The outcomes of calls. Done is the only one that guarantees an effect. After Unknown and
// Violation the effect is unknown.
const (
	Done Outcome = "done" // 2xx
	// 4xx for an expected reason: another rider was faster, no open booking, too late
	Refused     Outcome = "refused"
	Limited     Outcome = "limited"     // 429 with Retry-After
	Away        Outcome = "away"        // 503 with Retry-After
	Unreachable Outcome = "unreachable" // no connection, so no request was sent
	Unknown     Outcome = "unknown"     // the request was sent, and no answer arrived
	Expired     Outcome = "expired"     // the token expired on the way
	Violation   Outcome = "violation"   // an answer that Pillion must never give
)

// A Call is one request and its answer. The attempts of one step are several calls with the same
// Key.
type Call struct {
	Op       Op         `json:"op"`
	Actor    string     `json:"actor"` // the account's id
	Booking  booking.ID `json:"booking_id,omitempty"`
	Key      string     `json:"key,omitempty"` // its Idempotency-Key
	Try      int        `json:"try"`           // the number of the attempt, from 1
	Instance string     `json:"instance"`      // base URL
	Due      time.Time  `json:"due"`           // when the step was due
	Start    time.Time  `json:"start"`         // when this call was sent
	End      time.Time  `json:"end"`
	Outcome  Outcome    `json:"outcome"`
	Status   int        `json:"status,omitempty"` // 0 if there was no answer
	Code     string     `json:"code,omitempty"`   // of a refusal or a failure
	Detail   string     `json:"detail,omitempty"` // of a violation or a network error
}

// A step is one operation of an actor, in one call or several attempts.
type step struct {
	op      Op
	method  string
	hosts   []string
	path    string
	body    any
	key     string     // Idempotency-Key, which allows retries after an unknown outcome
	booking booking.ID // the booking, if it is known
	due     time.Time
	kind    booking.Kind // the event that success adds to the ledger
	into    any          // receives a 2xx answer; a *bookingAnswer is checked as well

	idempotent bool // retries are allowed without a key
	anonymous  bool // the call carries no token
	mayRepeat  bool // an earlier step may have added the event already, and then this one adds none
}

// A result is the outcome of a step: its last call.
type result struct{ Call }

func (r result) done() bool { return r.Outcome == Done }

var errRetry = errors.New("retry")

// do carries out a step: it retries until the outcome is final or Patience is over. It obeys
// Retry-After.
func (a *actor) do(ctx context.Context, s step) result {
	ctx, cancel := context.WithTimeout(ctx, a.run.Patience)
	defer cancel()
	p := retry.Policy{First: 50 * time.Millisecond, Longest: time.Second, Within: a.run.Patience}
	var last Call
	// The error is of no use: last has the outcome.
	_ = p.Do(ctx, func() error {
		if !a.awaitBackoff(ctx) {
			return retry.Permanent(ctx.Err())
		}
		attempts := last.Try
		var wait time.Duration
		last, wait = a.call(ctx, s)
		last.Try = attempts + 1
		if (last.Code == tokenExpired || last.Code == invalidToken) && a.discardToken(last.Start) {
			last.Outcome, last.Detail = Expired, ""
		}
		a.run.stats.call(last)
		switch {
		case last.Outcome == Limited || last.Outcome == Away:
			a.backoffUntil(wait)
			return retry.After(wait)
		case last.Outcome == Unreachable, last.Outcome == Expired, last.Outcome == Unknown &&
			(s.idempotent || s.key != ""):
			return errRetry
		}
		return nil
	})
	if last.Try == 0 { // no time was left for an attempt
		now := time.Now()
		last = Call{
			Op: s.op, Actor: a.id, Booking: s.booking, Key: s.key, Due: s.due, Start: now, End: now,
			Outcome: Unreachable,
		}
	}
	a.run.stats.step(last)
	if last.Outcome == Done && s.kind != "" {
		a.run.stats.acknowledge(a.acknowledged(s, last))
	}
	return result{last}
}

const (
	invalidToken = "invalid_token"
	tokenExpired = "token_expired"
)

// answerLimit bounds the size of an answer, in bytes. No real answer is as large.
const answerLimit = 1 << 20

// call makes one call. It also returns the time to wait from the answer's Retry-After.
func (a *actor) call(ctx context.Context, s step) (c Call, wait time.Duration) {
	c = Call{Op: s.op, Actor: a.id, Booking: s.booking, Key: s.key, Due: s.due, Instance: a.instance(s.hosts)}
	bearer := ""
	if !s.anonymous {
		var ok bool
		if bearer, ok = a.bearer(ctx); !ok {
			c.Start = time.Now()
			c.End, c.Outcome, c.Detail = c.Start, Unreachable, "the actor has no valid token"
			return c, 0
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.run.Timeout)
	defer cancel()
	var body []byte
	if s.body != nil {
		body, _ = json.Marshal(s.body) // maps of strings and numbers, which always succeed
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
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	c.Start = time.Now()
	resp, err := a.run.HTTP.Do(req)
	var got []byte
	if err == nil {
		got, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit))
		_ = resp.Body.Close() // after reading it, an error has no consequence
	}
	c.End = time.Now()
	if err != nil {
		c.Outcome, c.Detail = Unknown, err.Error()
		// net/http itself repeats a request with a key if a kept connection breaks, so a failure to
		// connect does not prove that nothing was sent.
		if dialing(err) && !connected.Load() {
			c.Outcome = Unreachable
		}
		return c, 0
	}
	return c.classify(s, resp, got)
}

// dialing reports whether err is a failure to connect.
func dialing(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// classify sets the outcome of an answer. It also returns the time to wait from its Retry-After.
func (c Call) classify(s step, resp *http.Response, body []byte) (Call, time.Duration) {
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
	_ = json.Unmarshal(body, &problem) // a body that is no problem has no code
	c.Code = problem.Code
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	retryAfter := err == nil && seconds > 0
	switch {
	case c.Status == http.StatusTooManyRequests && retryAfter:
		c.Outcome = Limited
	case c.Status == http.StatusServiceUnavailable && retryAfter:
		c.Outcome = Away
	case expected(s.op, c.Status, c.Code):
		c.Outcome = Refused
	default:
		c.Outcome = Violation
		c.Detail = fmt.Sprintf("answered with %d, code %q, Retry-After %q", c.Status, c.Code,
			resp.Header.Get("Retry-After"))
	}
	return c, time.Duration(seconds) * time.Second
}

// expected reports whether a refusal is part of normal operation.
func expected(op Op, status int, code string) bool {
	switch status {
	case http.StatusNotFound:
		return code == "no_open_bookings" && op == Accept
	case http.StatusUnauthorized:
		return op == Refresh || op == Login
	case http.StatusConflict:
		// riders send the code that the user has read
		return code != "" && op != Book && code != "wrong_start_code"
	}
	return false
}
