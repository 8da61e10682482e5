package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
)

// Direct gets are answered by any replica, with several messages. The headers of an answer carry
// the sequence and the time of storing beside the publisher's own headers, so a publisher could
// fake either, or end the answer early. Anything but what the server makes of an honest message is
// therefore read from the leader, whose word comes beside the message and not in it.
const (
	historyMost = 128     // messages of a history in one direct get; a ride has about five
	readMost    = 256     // messages of the ledger in one direct get
	readBytes   = 4 << 20 // likewise, about
)

// errAskLeader says that a replica's answer is too long, or could only be caused by a forged
// message.
var errAskLeader = errors.New("ask the leader")

// The headers that the server adds to an answer, behind those that the publisher stored with the
// message. It does not replace the publisher's headers of the same names.
const (
	headerStream   = "Nats-Stream"
	headerOnly     = "Nats-Subject"
	headerSequence = "Nats-Sequence"
	headerStored   = "Nats-Time-Stamp"

	headerStatus      = "Status"
	headerDescription = "Description"

	statusEnd  = "204"
	statusNone = "404"
)

// A directRequest is a direct get of several messages: the last ones of all subjects that Last
// matches, or those that Filter matches from Seq on.
type directRequest struct {
	Last     []string `json:"multi_last,omitempty"`
	Seq      uint64   `json:"seq,omitempty"`
	Filter   string   `json:"next_by_subj,omitempty"`
	Batch    int      `json:"batch"`
	MaxBytes int      `json:"max_bytes,omitempty"`
}

// directAll asks any replica for all messages that a filter matches.
func (l *Ledger) directAll(ctx context.Context, filter string) ([]bus.Message, error) {
	msgs, clear, err := l.direct(ctx, directRequest{Last: []string{filter}, Batch: historyMost})
	if err == nil && (!clear || len(msgs) == historyMost) {
		err = errAskLeader
	}
	return msgs, err
}

// next returns the messages that a filter matches from a sequence on, without a gap: some of them,
// or none where the leader has none.
func (l *Ledger) next(ctx context.Context, filter string, from uint64) ([]bus.Message, error) {
	msgs, _, err := l.direct(ctx, directRequest{Seq: from, Filter: filter, Batch: readMost, MaxBytes: readBytes})
	if err != nil {
		return nil, err
	}
	n := len(msgs)
	if filter == bus.LedgerSubjects {
		for n = 0; n < len(msgs) && msgs[n].Seq == from+uint64(n); n++ {
		}
	}
	if n > 0 {
		return msgs[:n], nil
	}
	// The replica lags, a message cannot be told from a forged one, or some have aged.
	m, err := l.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: from, NextFor: filter})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []bus.Message{m}, nil
}

// direct asks any replica, and returns the messages up to the first one that could be caused by a
// forged message. clear says that there was none.
func (l *Ledger) direct(ctx context.Context, r directRequest) (msgs []bus.Message, clear bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	req, err := json.Marshal(r)
	if err != nil {
		return nil, false, err
	}
	if err := l.conn.AwaitUp(ctx); err != nil {
		return nil, false, err
	}
	nc := l.conn.NATS()
	answers := make(chan *nats.Msg, r.Batch+1) // all of them fit
	sub, err := nc.ChanSubscribe(nc.NewInbox(), answers)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails without a connection, which ends it too
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+bus.LedgerStream, sub.Subject, req); err != nil {
		return nil, false, err
	}
	for {
		select {
		case m := <-answers:
			switch s, ok := directMessage(m); {
			case ok && (len(msgs) == 0 || s.Seq > msgs[len(msgs)-1].Seq):
				msgs = append(msgs, s)
			case isStatus(m, statusEnd):
				return msgs, true, nil
			case isStatus(m, statusNone):
				return nil, true, nil
			default: // forged, no responders, or an error
				return msgs, false, nil
			}
		case <-ctx.Done():
			return nil, false, fmt.Errorf("direct get: %w", ctx.Err())
		}
	}
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

// directMessage reads a stored message from an answer, if the server's headers can be told from the
// publisher's.
func directMessage(m *nats.Msg) (bus.Message, bool) {
	if !isWhole(m) || len(m.Header[headerStatus]) > 0 || m.Header.Get(headerStream) != bus.LedgerStream {
		return bus.Message{}, false
	}
	for _, name := range []string{headerStream, headerOnly, headerSequence, headerStored} {
		if len(m.Header[name]) != 1 {
			return bus.Message{}, false
		}
	}
	seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return bus.Message{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerStored))
	if err != nil {
		return bus.Message{}, false
	}
	return bus.Message{Subject: m.Header.Get(headerOnly), Header: m.Header, Data: m.Data, Seq: seq, StoredAt: at}, true
}
