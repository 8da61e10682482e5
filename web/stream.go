package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Ending is why a stream has ended. It stands in the stream's last event, and is a label of the metrics.
type Ending string

// The endings.
const (
	BookingOver  Ending = "booking_over"  // nothing more can come: do not come back
	TokenExpired Ending = "token_expired" // come back with a new token
	TokenRevoked Ending = "token_revoked" // likewise, after a login
	SlowReader   Ending = "slow_reader"   // the client did not read what it was told: come back and go on
	Restart      Ending = "restart"       // what was told may be wrong: come back and begin anew
	ShuttingDown Ending = "shutting_down" // come back and go on, at another instance
	Unavailable  Ending = "unavailable"   // something that is needed is away: come back and go on
	clientGone   Ending = "client_gone"   // nobody is there to be told
)

func endings() []Ending {
	return []Ending{BookingOver, TokenExpired, TokenRevoked, SlowReader, Restart, ShuttingDown, Unavailable, clientGone}
}

// comeBack reports whether a client should.
func (e Ending) comeBack() bool { return e != BookingOver }

// goodbye is how long a reader has for a stream's last event: it may be one that does not read.
const goodbye = 200 * time.Millisecond

// errStreamOver is what a stream's methods return when it has ended. The reason has been told and noted: a handler returns nil.
var errStreamOver = errors.New("the stream is over")

// An Event is one message of a stream.
type Event struct {
	ID    uint64 // where a client that comes back goes on; 0: it is not a place to go on from
	Event string // its kind
	Data  any    // as JSON, on one line
}

// A Stream is an answer that goes on. It is for the goroutine of its handler alone. The handler calls Begin, then Send whenever there is
// something, and meanwhile waits for Due, to call Tend, and for Over, to return. Every method that returns an error has ended the
// stream: the handler returns nil then.
type Stream struct {
	streams *Streams
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	claims  token.Claims
	raw     string

	whole  context.Context // the request's, which ends when the client has left
	ctx    context.Context // ends when the client has left or the server is told to stop
	cancel context.CancelFunc
	hurry  func() bool // stops the hurry when the server is told to stop

	due   *time.Timer
	begun bool
	buf   []byte

	mu       sync.Mutex // guards what the server's stop does beside the handler
	stopping bool

	reason Ending // "" until it has ended
}

func newStream(s *Streams, w http.ResponseWriter, r *http.Request, claims token.Claims, raw string) *Stream {
	st := &Stream{streams: s, w: w, r: r, control: http.NewResponseController(w), claims: claims, raw: raw}
	st.whole = r.Context()
	if rec := recordOf(st.whole); rec != nil && rec.whole != nil {
		st.whole = rec.whole
	}
	st.ctx, st.cancel = context.WithCancel(st.whole)
	st.hurry = context.AfterFunc(stoppingOf(r.Context()), st.stop)
	return st
}

// stop is called beside the handler when the server is told to stop: a write that waits for its reader waits no longer.
func (st *Stream) stop() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.stopping {
		return // it is closed
	}
	st.stopping = true
	_ = st.control.SetWriteDeadline(time.Now().Add(goodbye))
	st.cancel()
}

// Begin begins the answer: from now on there is no other. It fails for a request that wants the headers only.
func (st *Stream) Begin() error {
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep what it is to pass on
	h.Set("Connection", "close")     // the stream's last deadline stays with the connection: the next request would meet it
	st.w.WriteHeader(http.StatusOK)
	if st.r.Method == http.MethodHead {
		st.reason = clientGone
		return errStreamOver
	}
	st.begun = true
	st.streams.open.Inc()
	st.due = time.NewTimer(st.rest())
	st.buf = fmt.Appendf(st.buf[:0], "retry: %d\n\n", st.streams.limits.Retry.Milliseconds())
	return st.flush(st.streams.limits.Write)
}

// Send tells the client events. They are on their way when it returns.
func (st *Stream) Send(events ...Event) error {
	if st.reason != "" {
		return errStreamOver
	}
	if len(events) == 0 {
		return nil
	}
	st.buf = st.buf[:0]
	for _, e := range events {
		var err error
		if st.buf, err = e.append(st.buf); err != nil {
			recordOf(st.r.Context()).logFailure(st.r.Context(), fault.ErrInternal.Code, err)
			return st.End(Unavailable)
		}
	}
	return st.flush(st.streams.limits.Write)
}

// append writes an event as it goes over the wire. JSON on one line has no line breaks, so one line of data is enough.
func (e Event) append(b []byte) ([]byte, error) {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return b, fmt.Errorf("encode event %s: %w", e.Event, err)
	}
	if e.ID != 0 {
		b = append(b, "id: "...)
		b = strconv.AppendUint(b, e.ID, 10)
		b = append(b, '\n')
	}
	b = append(b, "event: "...)
	b = append(b, e.Event...)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	return append(b, "\n\n"...), nil
}

// flush sends the buffer and gives the reader some time to take it.
func (st *Stream) flush(patience time.Duration) error {
	st.mu.Lock()
	var err error
	if !st.stopping { // else there is a deadline already
		err = st.control.SetWriteDeadline(time.Now().Add(patience))
	}
	st.mu.Unlock()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return st.lost(err)
	}
	if _, err := st.w.Write(st.buf); err != nil {
		return st.lost(err)
	}
	if err := st.control.Flush(); err != nil {
		return st.lost(err)
	}
	if cap(st.buf) > 4<<10 {
		st.buf = nil // thousands of streams are silent most of the time
	}
	return nil
}

// lost ends a stream that could not be written to.
func (st *Stream) lost(err error) error {
	st.reason = clientGone
	if errors.Is(err, os.ErrDeadlineExceeded) {
		st.reason = SlowReader
	}
	return errStreamOver
}

// rest returns how long the stream may be left alone.
func (st *Stream) rest() time.Duration {
	left := st.claims.ExpiresAt.Sub(st.streams.now())
	return max(time.Millisecond, min(st.streams.limits.Heartbeat, left))
}

// Due returns a channel that gets a value when it is time to Tend the stream.
func (st *Stream) Due() <-chan time.Time { return st.due.C }

// Tend keeps the stream: it verifies the token again, and tells the client, and whatever stands in between, that the stream is alive.
func (st *Stream) Tend() error {
	if st.reason != "" {
		return errStreamOver
	}
	if _, err := st.streams.verifier.Verify(st.ctx, st.raw); err != nil {
		switch {
		case st.ctx.Err() != nil:
			return st.Leave()
		case !errors.Is(err, token.ErrInvalid):
			return st.End(Unavailable)
		case token.Reason(err) == "expired":
			return st.End(TokenExpired)
		}
		return st.End(TokenRevoked)
	}
	st.due.Reset(st.rest())
	st.buf = append(st.buf[:0], ":\n\n"...)
	return st.flush(st.streams.limits.Write)
}

// Context returns a context that ends when the stream is to end.
func (st *Stream) Context() context.Context { return st.ctx }

// Over returns a channel that is closed when the client has left or the server is told to stop. Call Leave then.
func (st *Stream) Over() <-chan struct{} { return st.ctx.Done() }

// Leave ends the stream for the reason for which Over was closed.
func (st *Stream) Leave() error {
	if st.whole.Err() != nil {
		if st.reason == "" {
			st.reason = clientGone
		}
		return errStreamOver
	}
	return st.End(ShuttingDown)
}

// end is the data of a stream's last event.
type end struct {
	Reason    Ending `json:"reason"`
	Reconnect bool   `json:"reconnect"`
}

// End ends the stream and tells the client why. It always returns an error.
func (st *Stream) End(reason Ending) error {
	if st.reason != "" {
		return errStreamOver
	}
	b, err := Event{Event: "end", Data: end{reason, reason.comeBack()}}.append(nil)
	if err != nil {
		return st.lost(err)
	}
	if reason == Restart {
		b = append([]byte("id:\n"), b...) // which makes a client forget where it was, so that it does not ask to go on from there
	}
	st.buf = b
	if err := st.flush(goodbye); err != nil && st.reason == clientGone {
		return err
	}
	st.reason = reason
	return errStreamOver
}

// Close gives the stream's place back.
func (st *Stream) Close() {
	st.hurry()
	st.mu.Lock()
	st.stopping = true // the connection is not the stream's any more
	st.mu.Unlock()
	st.cancel()
	st.streams.leave(st.claims.Subject)
	if !st.begun {
		return
	}
	st.due.Stop()
	if st.reason == "" {
		st.reason = clientGone
	}
	st.streams.open.Dec()
	st.streams.ended.WithLabelValues(string(st.reason)).Inc()
	if rec := recordOf(st.r.Context()); rec != nil {
		rec.ended = string(st.reason)
	}
}

// ErrLastEventID is for a place to go on from that is none.
var ErrLastEventID = fault.New(fault.Invalid, "last_event_id",
	"Last-Event-ID must be an id exactly as the stream gave it, or not be there at all.")

// LastEventID returns the id of the last event that the client has: from the header Last-Event-ID, which clients send by themselves when they come back, or else
// from ?after=; false where it has none. It returns ErrLastEventID and ErrQuery.
func LastEventID(r *http.Request) (id uint64, ok bool, err error) {
	values := r.Header["Last-Event-Id"]
	if len(values) == 1 && values[0] == "" {
		values = nil
	}
	if len(values) == 0 {
		query, err := queryOf(r)
		if err != nil {
			return 0, false, err
		}
		values = query["after"]
	}
	if len(values) == 0 {
		return 0, false, nil
	}
	id, err = strconv.ParseUint(values[0], 10, 64)
	if err != nil || len(values) > 1 {
		return 0, false, ErrLastEventID
	}
	return id, true, nil
}
