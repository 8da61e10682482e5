package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Ending is why a stream has ended, as its last event and the metrics name it.
type Ending string

// The endings.
const (
	BookingOver  Ending = "booking_over"  // no more events can come: do not reconnect
	TokenExpired Ending = "token_expired" // reconnect with a new token
	TokenRevoked Ending = "token_revoked" // log in and reconnect
	SlowReader   Ending = "slow_reader"   // the client read too slowly: reconnect and resume
	Restart      Ending = "restart"       // earlier events may be wrong: reconnect and start over
	ShuttingDown Ending = "shutting_down" // reconnect, to another instance, and resume
	Unavailable  Ending = "unavailable"   // a dependency is unavailable: reconnect and resume
	clientGone   Ending = "client_gone"   // metrics only: the client has left
)

func endings() []Ending {
	return []Ending{BookingOver, TokenExpired, TokenRevoked, SlowReader, Restart, ShuttingDown, Unavailable, clientGone}
}

// lastEventTimeout is how long a reader may take for a stream's last event.
const lastEventTimeout = 200 * time.Millisecond

// errStreamOver is the error of every method of a stream that has ended.
var errStreamOver = errors.New("the stream is over")

// An Event is one message of a stream.
type Event struct {
	ID    uint64 // where a client resumes; 0: a client cannot resume here
	Event string // the kind of event
	Data  any    // encoded as JSON
}

// A Stream is an answer of Server-Sent Events. Only the goroutine of its handler may use it. The
// handler calls Begin, then Send for each event. Between events it waits for Due, to call
// KeepAlive, and for Over, to call Leave. A method that returns an error has ended the stream, sent
// and recorded the reason: the handler then returns nil.
type Stream struct {
	streams *Streams
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	claims  token.Claims
	raw     string

	request context.Context // ends when the client has left
	ctx     context.Context // ends when the client has left or the server stops
	cancel  context.CancelFunc
	unhook  func() bool // undoes the call of stop when the server stops

	due   *time.Timer
	begun bool
	buf   []byte

	mu       sync.Mutex // stop runs concurrently with the handler
	stopping bool

	reason Ending // "" until the stream has ended
}

func newStream(s *Streams, w http.ResponseWriter, r *http.Request, claims token.Claims, raw string) *Stream {
	st := &Stream{streams: s, w: w, r: r, control: http.NewResponseController(w), claims: claims, raw: raw}
	st.request = r.Context()
	if rec := recordOf(st.request); rec != nil && rec.untimed != nil {
		st.request = rec.untimed
	}
	st.ctx, st.cancel = context.WithCancel(st.request)
	st.unhook = context.AfterFunc(stoppingOf(r.Context()), st.stop)
	return st
}

// stop runs when the server is told to stop. It cuts short a write that waits for a slow reader.
func (st *Stream) stop() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.stopping {
		return // the stream is closed
	}
	st.stopping = true
	_ = st.control.SetWriteDeadline(time.Now().Add(lastEventTimeout))
	st.cancel()
}

// reconnectAfter is how long clients are told to wait before they reconnect.
const reconnectAfter = 3 * time.Second

// Begin writes the header of the answer. It ends the stream of a HEAD request.
func (st *Stream) Begin() error {
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer the events
	if st.r.ProtoMajor == 1 {        // the connection keeps the stream's last write deadline
		h.Set("Connection", "close")
	}
	st.w.WriteHeader(http.StatusOK)
	if st.r.Method == http.MethodHead {
		st.reason = clientGone
		return errStreamOver
	}
	st.begun = true
	st.streams.open.Inc()
	st.due = time.NewTimer(st.untilDue())
	st.buf = fmt.Appendf(st.buf[:0], "retry: %d\n\n", reconnectAfter.Milliseconds())
	return st.flush(st.streams.limits.Write)
}

// Send writes events and flushes them.
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
			recordOf(st.r.Context()).logFailure(st.r.Context(), slog.LevelError, fault.ErrInternal.Code, err)
			return st.End(Unavailable)
		}
	}
	return st.flush(st.streams.limits.Write)
}

// append appends the wire form of an event. JSON from json.Marshal has no line breaks, so data is
// one line.
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

// flush writes the buffer, and gives the reader a time limit to receive it.
func (st *Stream) flush(patience time.Duration) error {
	if err := st.writeBy(time.Now().Add(patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return st.lost(err)
	}
	_, err := st.w.Write(st.buf)
	if err == nil {
		err = st.control.Flush()
	}
	if err != nil {
		return st.lost(err)
	}
	if st.r.ProtoMajor > 1 { // it would end an idle stream of HTTP/2
		_ = st.writeBy(time.Time{})
	}
	if cap(st.buf) > 4<<10 {
		st.buf = nil // most streams are idle: do not keep a large buffer for each
	}
	return nil
}

// writeBy sets the deadline of writes, unless stop has set one.
func (st *Stream) writeBy(deadline time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.stopping {
		return nil
	}
	return st.control.SetWriteDeadline(deadline)
}

// lost ends a stream after a failed write.
func (st *Stream) lost(err error) error {
	st.reason = clientGone
	if errors.Is(err, os.ErrDeadlineExceeded) {
		st.reason = SlowReader
	}
	return errStreamOver
}

// untilDue returns the time until the next KeepAlive.
func (st *Stream) untilDue() time.Duration {
	left := st.claims.ExpiresAt.Sub(st.streams.now())
	return max(time.Millisecond, min(st.streams.limits.Heartbeat, left))
}

// Due returns a channel that receives a value when KeepAlive is due.
func (st *Stream) Due() <-chan time.Time { return st.due.C }

// KeepAlive verifies the token again, and sends a comment so that the client and any proxies see
// that the stream is alive.
func (st *Stream) KeepAlive() error {
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
	st.due.Reset(st.untilDue())
	st.buf = append(st.buf[:0], ":\n\n"...)
	return st.flush(st.streams.limits.Write)
}

// Over returns a channel that is closed when that context ends. Then call Leave.
func (st *Stream) Over() <-chan struct{} { return st.ctx.Done() }

// Leave ends a stream whose Over channel is closed. It returns an error in any case.
func (st *Stream) Leave() error {
	if st.request.Err() != nil {
		st.reason = cmp.Or(st.reason, clientGone)
		return errStreamOver
	}
	return st.End(ShuttingDown)
}

// end is the data of a stream's last event.
type end struct {
	Reason    Ending `json:"reason"`
	Reconnect bool   `json:"reconnect"`
}

// End sends the reason and ends the stream. It returns an error in any case.
func (st *Stream) End(reason Ending) error {
	if st.reason != "" {
		return errStreamOver
	}
	b, err := Event{Event: "end", Data: end{reason, reason != BookingOver}}.append(nil)
	if err != nil {
		return st.lost(err)
	}
	if reason == Restart {
		// clears the client's Last-Event-ID, so that it starts over
		b = append([]byte("id:\n"), b...)
	}
	st.buf = b
	if err := st.flush(lastEventTimeout); err != nil && st.reason == clientGone {
		return err
	}
	st.reason = reason
	return errStreamOver
}

// Close releases the stream. It must be called in any case.
func (st *Stream) Close() {
	st.unhook()
	st.mu.Lock()
	st.stopping = true // stop must not touch the connection any more
	st.mu.Unlock()
	st.cancel()
	st.streams.leave(st.claims.Subject)
	if !st.begun {
		return
	}
	st.due.Stop()
	st.reason = cmp.Or(st.reason, clientGone)
	st.streams.open.Dec()
	st.streams.ended.WithLabelValues(string(st.reason)).Inc()
	if rec := recordOf(st.r.Context()); rec != nil {
		rec.ended = string(st.reason)
	}
}

// ErrLastEventID refuses a malformed id of the last event.
var ErrLastEventID = fault.New(fault.Invalid, "last_event_id",
	"Last-Event-ID must be an id exactly as the stream sent it, or be absent.")

// LastEventID returns the id of the last event that the client has received, from the header
// Last-Event-ID, which clients send when they reconnect, or else from ?after=. ok is false for a
// client that starts. Errors: ErrLastEventID, whose sentence names the one that is malformed.
func LastEventID(r *http.Request) (id uint64, ok bool, err error) {
	if after := r.URL.Query()["after"]; after != nil {
		if id, err = strconv.ParseUint(after[0], 10, 64); err != nil {
			return 0, false, ErrLastEventID.Saying("after must be an id exactly as the stream sent it, or be absent.")
		}
	}
	header := r.Header["Last-Event-Id"]
	if len(header) == 0 || len(header) == 1 && header[0] == "" {
		return id, r.URL.Query().Has("after"), nil
	}
	if id, err = strconv.ParseUint(header[0], 10, 64); err != nil || len(header) > 1 {
		return 0, false, ErrLastEventID
	}
	return id, true, nil
}
