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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/retry"
)

// This file implements the server's protocol for copies of streams, which `nats stream backup`
// speaks too. The library of that tool, jsm.go, would replace fewer than 100 lines here, and link
// 86 more packages (7 MB), the server among them. It neither rejects a copy that begins at a bad
// moment nor resends a chunk for which there is no receiver yet.

const (
	chunkSize  = 128 << 10
	windowSize = 8 << 20
	// chunkPatience is how long a server may be silent during a copy.
	chunkPatience = 30 * time.Second
	// askPatience is how long a server may take for any other answer. It answers a request to
	// restore a stream when the stream has a leader.
	askPatience = 20 * time.Second
	// stallPatience is how long the server waits for the next chunk of a restore (activityInterval
	// in processStreamRestore of nats-server).
	stallPatience = 5 * time.Second

	apiPrefix = "$JS.API."
)

var errInterrupted = errors.New("the connection to NATS was lost during the copy")

// A snapshotHeader describes the copy of a stream that a server is about to send.
type snapshotHeader struct {
	// unparsed, because it may have fields that this version does not know
	Config json.RawMessage `json:"config"`
	State  streamState     `json:"state"`
}

// A streamState is the part of a stream's state that a manifest contains, with the server's JSON
// names.
type streamState struct {
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	First    uint64    `json:"first_seq"`
	FirstAt  time.Time `json:"first_ts"`
	Last     uint64    `json:"last_seq"`
	LastAt   time.Time `json:"last_ts"`
}

// ask calls the JetStream API. It returns a *jetstream.APIError when the server rejects the
// request.
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

// read parses an answer of the JetStream API.
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

// download copies a stream to w, without its consumers, up to its last sequence when the server
// begins. It calls check at that moment, and writes nothing if check returns an error.
func download(
	ctx context.Context, nc *nats.Conn, stream string, w io.Writer, check func(snapshotHeader) error,
) (h snapshotHeader, err error) {
	reconnects := nc.Stats().Reconnects
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return snapshotHeader{}, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // it fails only if the connection is lost
	// The server's window limits the number of pending chunks. A limit of the client would drop
	// chunks.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return snapshotHeader{}, err
	}
	err = ask(ctx, nc, "STREAM.SNAPSHOT."+stream, map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "chunk_size": chunkSize, "window_size": windowSize,
	}, &h)
	if err != nil {
		return snapshotHeader{}, err
	}
	if err := check(h); err != nil {
		return snapshotHeader{}, err
	}
	if err := receive(ctx, sub, w); err != nil {
		return snapshotHeader{}, err
	}
	if nc.Stats().Reconnects != reconnects { // chunks may have been lost without notice
		return snapshotHeader{}, errInterrupted
	}
	return h, nil
}

// receive writes the chunks of a copy to w, to the end.
func receive(ctx context.Context, sub *nats.Subscription, w io.Writer) error {
	for next := 1; ; next++ {
		m, err := await(ctx, sub)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the server aborted the copy: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if m.Reply != "" { // the last chunk has none
			if n, err := strconv.Atoi(m.Reply[strings.LastIndexByte(m.Reply, '.')+1:]); err == nil && n != next {
				return fmt.Errorf("received chunk %d instead of %d", n, next)
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

// upload creates a stream from a copy. There must be no stream of that name.
func upload(ctx context.Context, nc *nats.Conn, stream string, h snapshotHeader, r io.Reader) error {
	var at struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := ask(ctx, nc, "STREAM.RESTORE."+stream, h, &at); err != nil {
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

// send sends a chunk, and returns when the server has processed it. An empty chunk ends the copy:
// send then returns when the stream exists.
//
// In a cluster, the server that receives the chunks may not be the one that the client is connected
// to. The latter may learn of the receiver's subscription only after it has forwarded where to send
// chunks, because the two messages take different routes. A chunk without a receiver is sent again.
func send(ctx context.Context, nc *nats.Conn, to string, chunk []byte) error {
	p := notReadyYet
	p.Within = stallPatience
	p.When = func(err error) bool { return errors.Is(err, nats.ErrNoResponders) }
	m, err := retry.Get(ctx, p, func() (*nats.Msg, error) {
		ctx, cancel := context.WithTimeout(ctx, chunkPatience)
		defer cancel()
		return nc.RequestWithContext(ctx, to, chunk)
	})
	if err != nil || len(m.Data) == 0 {
		return err
	}
	return read(m.Data, &struct{}{})
}

// notReadyYet is the pace of calls for which the server becomes ready within milliseconds.
var notReadyYet = retry.Policy{First: 5 * time.Millisecond, Longest: 200 * time.Millisecond}

// A message is a message of a stream, and one line in the tail of a bucket.
type message struct {
	Subject string      `json:"subject"`
	Seq     uint64      `json:"seq"`
	Header  nats.Header `json:"header,omitempty"`
	Data    []byte      `json:"data,omitempty"`
	Time    time.Time   `json:"time"`
}

// publish returns m in publishable form, without the conditions under which it was stored.
func (m message) publish() *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
	for name := range out.Header {
		if strings.HasPrefix(name, "Nats-Expected-") || name == jetstream.MsgIDHeader {
			delete(out.Header, name)
		}
	}
	return out
}
