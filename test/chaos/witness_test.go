//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/token/tokentest"
)

// patience is the maximum time of an answer.
const patience = 12 * time.Second

// A witness is a transport that records all requests and their answers.
type witness struct {
	start time.Time
	next  http.RoundTripper

	mu      sync.Mutex
	all     []exchange
	tokens  map[string]booking.Actor // the owner of each
	bearers map[booking.Actor]string // the newest of each
	first   map[booking.CommandID]time.Duration
}

var _ http.RoundTripper = (*witness)(nil)

// An exchange is one request and its answer.
type exchange struct {
	begin, end time.Duration // since the witness's start
	op         string        // "POST /book"
	host       string
	fate       fate
	status     int
	code       string
	// the operation in the specification, or nil if it has none for such requests
	call *bookingtest.Call
}

// A fate is the outcome of a request.
type fate string

const (
	answered fate = "answered"
	away     fate = "503"           // with Retry-After
	nobody   fate = "no connection" // and nothing was sent
	broken   fate = "broken off"
	dropped  fate = "given up" // by the client, whose time for all tries was over
	wrong    fate = "wrong"    // an answer that Pillion must never give
)

func newWitness() *witness {
	return &witness{
		start: time.Now(), next: &http.Transport{MaxIdleConnsPerHost: 500, IdleConnTimeout: time.Minute},
		tokens: map[string]booking.Actor{}, bearers: map[booking.Actor]string{},
		first: map[booking.CommandID]time.Duration{},
	}
}

func (w *witness) now() time.Duration { return time.Since(w.start) }

// RoundTrip performs the request and records the answer.
func (w *witness) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchange{begin: w.now(), op: req.Method + " " + template(req.URL.Path), host: req.URL.Hostname()}
	var sent atomic.Bool
	traced := req.WithContext(httptrace.WithClientTrace(req.Context(),
		&httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	resp, err := w.next.RoundTrip(traced)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	x.end = w.now()
	var answer answer
	if err == nil {
		x.status = resp.StatusCode
		_ = json.Unmarshal(body, &answer) // a body without JSON has no fields
	}
	x.code, x.fate = answer.Code, fateOf(resp, err)
	if x.fate == nobody &&
		// net/http itself retries a request with an Idempotency-Key if a kept connection breaks
		sent.Load() {
		x.fate = broken
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	x.call = w.call(req, x, answer)
	w.all = append(w.all, x)
	return resp, err
}

func fateOf(resp *http.Response, err error) fate {
	var op *net.OpError
	switch {
	case err == nil && resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		return away
	case err == nil && resp.StatusCode >= http.StatusInternalServerError:
		return wrong
	case err == nil:
		return answered
	case errors.Is(err, context.DeadlineExceeded):
		return dropped
	case errors.As(err, &op) && op.Op == "dial":
		return nobody
	}
	return broken
}

// template returns a path without the IDs in it.
func template(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if booking.ValidID(p) {
			parts[i] = "{id}"
		}
	}
	return strings.Join(parts, "/")
}

// An answer has the fields that bodies of answers may have.
type answer struct {
	Booking booking.ID      `json:"booking_id"`
	State   booking.State   `json:"state"`
	Rider   booking.RiderID `json:"raider_id"`
	Code    string          `json:"code"`
}

// call returns the request as an operation of the specification, or nil.
func (w *witness) call(req *http.Request, x exchange, a answer) *bookingtest.Call {
	actor := w.whose(req.Header.Get("Authorization"))
	if actor.ID == "" || x.fate == nobody {
		return nil
	}
	c := &bookingtest.Call{
		Actor: actor, Right: true, Wait: deadline, Partly: true, Begin: int64(x.begin), First: int64(x.begin),
		End: int64(x.end),
		Got: booking.Booking{ID: a.Booking, State: a.State, Rider: a.Rider},
	}
	path := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	verb := path[len(path)-1]
	switch {
	case x.op == "POST /book":
		c.Op, c.ID = bookingtest.OpBook, booking.ID(booking.DeriveID("booking", actor.ID,
			req.Header.Get("Idempotency-Key")))
	case x.op == "POST /accept-booking":
		c.Op, c.ID = bookingtest.OpAccept, a.Booking
	case x.op == "GET /bookings/{id}":
		c.Op, c.ID = bookingtest.OpShow, booking.ID(verb)
	case strings.HasPrefix(x.op, "POST /bookings/{id}/"):
		c.Op, c.ID = bookingtest.Op(verb), booking.ID(path[1])
	default:
		return nil
	}
	var asked struct {
		Booking booking.ID `json:"booking_id"`
		Stars   int        `json:"stars"`
	}
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			_ = json.NewDecoder(body).Decode(&asked) // load wrote it
		}
	}
	c.Stars = asked.Stars
	if c.ID == "" {
		c.ID = asked.Booking
	}
	if key := req.Header.Get("Idempotency-Key"); key != "" {
		c.Command, _ = booking.Keyed(actor.ID, req.URL.Path, key, nil)
		if first, there := w.first[c.Command]; there {
			c.First = int64(first)
		} else {
			w.first[c.Command] = x.begin
		}
	}
	if with := a.State == booking.StateAccepted || a.State == booking.StateArrived ||
		a.State == booking.StateStarted; with && actor.Role == booking.Rider {
		c.Got.Rider = booking.RiderID(actor.ID)
	}
	switch {
	case x.fate == answered && x.status < 300:
	case x.fate == answered, x.code == bookingtest.Contended:
		c.Answer = x.code
		c.Right = x.code != "wrong_start_code"
	default:
		c.Answer, c.End = bookingtest.Unknown, bookingtest.Forever
	}
	return c
}

// whose returns the actor of a token, without verification.
func (w *witness) whose(header string) booking.Actor {
	bearer, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return booking.Actor{}
	}
	if a, known := w.tokens[bearer]; known {
		return a
	}
	subject, role := tokentest.Claimed(bearer) // for the record only
	a := booking.Actor{ID: subject, Role: booking.Role(role)}
	w.tokens[bearer], w.bearers[a] = a, bearer
	return a
}

// written returns when a booking requested after a given time was first acknowledged, and whether
// one was.
func (w *witness) written(after time.Duration) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first time.Duration
	for i := len(w.all) - 1; i >= 0 && w.all[i].end > after; i-- {
		if x := w.all[i]; x.op == "POST /book" && x.begin > after && x.fate == answered && x.status < 300 &&
			(first == 0 || x.end < first) {
			first = x.end
		}
	}
	return first, first > 0
}

// since returns the exchanges that ended after a time.
func (w *witness) since(after time.Duration) (some []exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.all) - 1; i >= 0 && w.all[i].end > after; i-- {
		some = append(some, w.all[i])
	}
	return some
}
