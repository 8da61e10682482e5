package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// This is the server's own protocol for copies of streams, as `nats stream backup` speaks it. The library of that tool, jsm.go, brings
// the server's API types with the whole server, and a command line; this much of it is what is needed.

const (
	chunkSize  = 128 << 10
	windowSize = 8 << 20
	// chunkPatience is how long a server may be silent in the middle of a copy.
	chunkPatience = 30 * time.Second
	// askPatience is how long a server may take for any other answer. A restore is answered once the stream has a leader.
	askPatience = 20 * time.Second
	// stallPatience is how long the server waits for the next chunk of a restore (activityInterval of processStreamRestore).
	stallPatience = 5 * time.Second

	apiPrefix = "$JS.API."
)

var errInterrupted = errors.New("the connection to NATS was lost in the middle of the copy")

// A cut is what a server says of the copy of a stream that it is about to send.
type cut struct {
	Config json.RawMessage `json:"config"` // as it is: it may say more than we know
	State  state           `json:"state"`
}

// A state is what of a stream's state is in a manifest, in the server's own words.
type state struct {
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	First    uint64    `json:"first_seq"`
	FirstAt  time.Time `json:"first_ts"`
	Last     uint64    `json:"last_seq"`
	LastAt   time.Time `json:"last_ts"`
}

// ask makes a call of JetStream's API. The server's refusal is a *jetstream.APIError.
func ask(ctx context.Context, nc *nats.Conn, call string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", call, err)
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, apiPrefix+call, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", call, err)
	}
	if err := read(m.Data, answer); err != nil {
		return fmt.Errorf("ask %s: %w", call, err)
	}
	return nil
}

// read reads an answer, which may be a refusal.
func read(body []byte, answer any) error {
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(body, &refusal); err != nil {
		return err
	}
	if refusal.Error != nil {
		return refusal.Error
	}
	return json.Unmarshal(body, answer)
}

// download copies a stream to w, without its consumers, up to the sequence that it has when the server begins. Where good, which is asked at that
// moment, says no, nothing is written and ok is false.
func download(ctx context.Context, nc *nats.Conn, stream string, w io.Writer, good func(cut) (bool, error)) (c cut, ok bool, err error) {
	reconnects := nc.Stats().Reconnects
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return cut{}, false, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is gone, and with it the subscription
	// The server's window bounds what waits here; a limit of the client's would drop chunks instead.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return cut{}, false, err
	}
	err = ask(ctx, nc, "STREAM.SNAPSHOT."+stream, map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "chunk_size": chunkSize, "window_size": windowSize,
	}, &c)
	if err != nil {
		return cut{}, false, err
	}
	if ok, err = good(c); err != nil || !ok {
		return c, false, err
	}
	if err := receive(ctx, sub, w); err != nil {
		return cut{}, false, err
	}
	if nc.Stats().Reconnects != reconnects { // or something may have been lost that nobody misses
		return cut{}, false, errInterrupted
	}
	return c, true, nil
}

// receive takes the chunks of a copy, to the end.
func receive(ctx context.Context, sub *nats.Subscription, w io.Writer) error {
	for next := 1; ; next++ {
		m, err := await(ctx, sub)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the server has given up: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if m.Reply != "" { // the last one, which is not a whole chunk, has none
			if n, err := strconv.Atoi(m.Reply[strings.LastIndexByte(m.Reply, '.')+1:]); err == nil && n != next {
				return fmt.Errorf("chunk %d came in the place of %d", n, next)
			}
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
	}
}

func await(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkPatience)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// upload makes a stream of a copy. There must be none of that name.
func upload(ctx context.Context, nc *nats.Conn, stream string, c cut, r io.Reader) error {
	var at struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := ask(ctx, nc, "STREAM.RESTORE."+stream, c, &at); err != nil {
		return err
	}
	chunk := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, chunk)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if n > 0 {
			if err := send(ctx, nc, at.Deliver, chunk[:n]); err != nil {
				return err
			}
		}
		if last {
			return send(ctx, nc, at.Deliver, nil)
		}
	}
}

// send sends a chunk, and returns when the server has dealt with it; with the end of the copy, an empty one, when the stream is there.
//
// In a cluster the server that takes the chunks may be another than ours, and ours may hear that they are wanted a moment after it has heard where they
// go: the two words come on different routes. A chunk that nobody wants has not arrived, and is sent again.
func send(ctx context.Context, nc *nats.Conn, to string, chunk []byte) error {
	m, err := backoff.Retry(ctx, func() (*nats.Msg, error) {
		ctx, cancel := context.WithTimeout(ctx, chunkPatience)
		defer cancel()
		m, err := nc.RequestWithContext(ctx, to, chunk)
		if err != nil && !errors.Is(err, nats.ErrNoResponders) {
			err = backoff.Permanent(err)
		}
		return m, err
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(stallPatience))
	if err != nil || len(m.Data) == 0 {
		return err
	}
	return read(m.Data, &struct{}{})
}

// newBackOff paces what is tried again because the server is not ready for it yet, which takes it milliseconds.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 5 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 200 * time.Millisecond}
}

// A message is one of a stream.
type message struct {
	Subject string      `json:"subject"`
	Seq     uint64      `json:"seq"`
	Header  nats.Header `json:"header,omitempty"`
	Data    []byte      `json:"data,omitempty"`
	Time    time.Time   `json:"time"`
}

// errNone is that there is no such message.
var errNone = errors.New("no message")

// get asks the leader for the message with a sequence, or the next one after it that there is. It answers errNone.
func get(ctx context.Context, nc *nats.Conn, stream string, seq uint64, orNext bool) (message, error) {
	request := map[string]any{"seq": seq}
	if orNext {
		request["next_by_subj"] = ">"
	}
	var answer struct {
		Message struct {
			message
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	err := ask(ctx, nc, "STREAM.MSG.GET."+stream, request, &answer)
	var refusal *jetstream.APIError
	if errors.As(err, &refusal) && refusal.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return message{}, errNone
	}
	if err != nil {
		return message{}, err
	}
	m := answer.Message.message
	if raw := answer.Message.Header; len(raw) > 0 {
		m.Header, err = nats.DecodeHeadersMsg(raw)
	}
	return m, err
}

// publish returns m as one to be published, without what was the condition for storing it then.
func (m message) publish() *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
	for name := range out.Header {
		if strings.HasPrefix(name, "Nats-Expected-") || name == jetstream.MsgIDHeader {
			delete(out.Header, name)
		}
	}
	return out
}
