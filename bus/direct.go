package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The headers that the server adds when it republishes a message or answers a direct get. They
// stand behind the publisher's own headers, and do not replace those of the same name.
const (
	headerStream   = "Nats-Stream"
	headerOnly     = "Nats-Subject"
	headerSequence = "Nats-Sequence"
	headerStored   = "Nats-Time-Stamp"
	headerBefore   = "Nats-Last-Sequence"
	headerPending  = "Nats-Num-Pending"

	headerStatus      = "Status"
	headerDescription = "Description"

	statusEnd  = "204"
	statusNone = "404"
)

// readBatch is how many messages [Conn.ReadOn] asks for. The server stores nothing meanwhile.
const readBatch = 256

// everything is the filter for a whole stream. For any other one with a wildcard the server looks
// at each subject that matches, and each event of the ledger has one of its own. In a ledger of a
// million events a request for "ledger.>" takes 240 ms, and one for everything 3 ms.
const everything = ">"

// A DirectRequest asks for several messages: the last ones of all subjects that Last matches, or
// those that Filter matches from Seq on. It asks for at most Batch, which may be 1,000.
type DirectRequest struct {
	Last   []string `json:"multi_last,omitempty"`
	Seq    uint64   `json:"seq,omitempty"`
	Filter string   `json:"next_by_subj,omitempty"`
	Batch  int      `json:"batch"`
}

// DirectGet asks any replica of a stream, which may lag behind the leader, and returns messages in
// order.
//
// The headers of an answer carry the sequence and the time of storing beside the publisher's own
// headers, so a publisher could fake either, or end the answer early. DirectGet returns the
// messages up to the first one that could be caused by a forged message. clear says that there was
// none; otherwise ask the leader, whose word comes beside the message and not in it ([Conn.Get]).
func (c *Conn) DirectGet(ctx context.Context, stream string, r DirectRequest) (msgs []Message, clear bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	req, err := json.Marshal(r)
	if err != nil {
		return nil, false, err
	}
	if err := c.AwaitUp(ctx); err != nil {
		return nil, false, err
	}
	// The library's SubscribeSync would make half a megabyte of room for each call.
	answers := make(chan *nats.Msg, r.Batch+1) // all of them fit
	sub, err := c.nc.ChanSubscribe(c.nc.NewInbox(), answers)
	if err != nil {
		return nil, false, fmt.Errorf("direct get: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails without a connection, which ends it too
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, sub.Subject, req); err != nil {
		return nil, false, fmt.Errorf("direct get: %w", err)
	}
	for {
		select {
		case answer := <-answers:
			switch m, ok := copied(answer, stream, true); {
			case ok && (len(msgs) == 0 || m.Seq > msgs[len(msgs)-1].Seq):
				msgs = append(msgs, m)
			case isStatus(answer, statusEnd):
				return msgs, true, nil
			case isStatus(answer, statusNone):
				return nil, true, nil
			default: // forged, no responders, or an error
				return msgs, false, nil
			}
		case <-ctx.Done():
			return nil, false, fmt.Errorf("direct get: %w", ctx.Err())
		}
	}
}

// ReadOn returns a stream's messages from a sequence on: some of them, or none where the leader has
// none. What a replica does not know, and what could be forged, comes from the leader. A sequence
// that is skipped was deleted, or has aged.
func (c *Conn) ReadOn(ctx context.Context, stream string, from uint64) ([]Message, error) {
	return c.readOn(ctx, stream, everything, from)
}

// readOn is ReadOn for the messages that a filter matches.
func (c *Conn) readOn(ctx context.Context, stream, filter string, from uint64) ([]Message, error) {
	msgs, _, err := c.DirectGet(ctx, stream, DirectRequest{Seq: from, Filter: filter, Batch: readBatch})
	if err != nil {
		return nil, err
	}
	n := len(msgs)
	if stream == LedgerStream && filter == everything { // of the ledger, only its beginning goes
		for n = 0; n < len(msgs) && msgs[n].Seq == from+uint64(n); n++ {
		}
	}
	if n > 0 {
		return msgs[:n], nil
	}
	m, err := c.Get(ctx, stream, GetRequest{Seq: from, NextFor: filter})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Message{m}, nil
}

// ReadAll returns the messages that a filter matches from a sequence on, as far as the leader has
// them now. It is slower than a DirectGet, and always right.
func (c *Conn) ReadAll(ctx context.Context, stream, filter string, from uint64) ([]Message, error) {
	last, err := c.LastSequence(ctx, stream, filter)
	if err != nil {
		return nil, err
	}
	var msgs []Message
	for from <= last {
		more, err := c.readOn(ctx, stream, filter, from)
		if err != nil || len(more) == 0 { // what was left has aged
			return msgs, err
		}
		msgs = append(msgs, more...)
		from = more[len(more)-1].Seq + 1
	}
	return msgs, nil
}

// isStatus reports whether a message is a status of the server's own, and no stored message.
func isStatus(m *nats.Msg, status string) bool {
	return m.Header.Get(headerStatus) == status && len(m.Header[headerSequence]) == 0 && len(m.Data) == 0 &&
		isWhole(m)
}

// isWhole reports whether the parser has shown us all of a message's headers. Bytes that it did not
// (behind an early blank line, say) make the message longer than its headers. No spelling of a line
// is more than two bytes shorter than ours, so few lines cannot make up for the hundred and fifty
// bytes that the server adds.
func isWhole(m *nats.Msg) bool {
	size, lines := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range m.Header {
		for _, v := range values {
			lines++
			if name == headerStatus || name == headerDescription { // in the first line
				size += len(" ") + len(v)
				continue
			}
			size += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return size+len(m.Subject)+len(m.Reply)+len(m.Data) == m.Size() && lines <= 40
}

// copied reads a stored message from a copy that the server has made, if it is one of that stream,
// and if the headers that the server has added can be told from the publisher's own. Answers to
// direct gets have one more than republished messages.
func copied(m *nats.Msg, stream string, answer bool) (Message, bool) {
	pending := 0
	if answer {
		pending = 1
	}
	if !isWhole(m) || len(m.Header[headerStatus]) > 0 || len(m.Header[headerPending]) != pending {
		return Message{}, false
	}
	added := [...]string{headerStream, headerOnly, headerSequence, headerStored, headerBefore}
	for _, name := range added {
		if len(m.Header[name]) != 1 {
			return Message{}, false
		}
	}
	if m.Header.Get(headerStream) != stream {
		return Message{}, false
	}
	seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return Message{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerStored))
	if err != nil {
		return Message{}, false
	}
	subject := m.Header.Get(headerOnly)
	delete(m.Header, headerPending)
	for _, name := range added {
		delete(m.Header, name)
	}
	return Message{Subject: subject, Header: m.Header, Data: m.Data, Seq: seq, StoredAt: at}, true
}
