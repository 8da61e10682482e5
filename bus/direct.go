package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
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
	headerStatus   = "Status"

	statusEnd  = "204"
	statusNone = "404"
)

// directLimit is more than any answer to a direct get has messages: 1,024 and the end.
const directLimit = 1_100

// errDoubtful says that an answer is too long, or could only be caused by a forged message. The
// leader can be asked instead: its word comes beside the message, not in it.
var errDoubtful = errors.New("the answer to a direct get is not what a server makes of an honest message")

// directGet asks any replica of a stream for several messages, and returns them in order. The
// replica may lag behind the leader.
//
// A publisher could fake the headers that the server adds, or end the answer early. Anything but
// what the server makes of an honest message is therefore errDoubtful, and comes with the messages
// before it.
func (c *Conn) directGet(ctx context.Context, stream string, request any) ([]Message, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	req, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	// The library's SubscribeSync would make half a megabyte of room for each call.
	inbox, answers := c.nc.NewInbox(), make(chan *nats.Msg, directLimit)
	sub, err := c.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("direct get: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails without a connection, and then there is no subscription
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, req); err != nil {
		return nil, fmt.Errorf("direct get: %w", err)
	}
	var msgs []Message
	for {
		var answer *nats.Msg
		select {
		case answer = <-answers:
		case <-ctx.Done():
			return nil, fmt.Errorf("direct get: %w", ctx.Err())
		}
		if len(answer.Header[headerSequence]) == 0 { // a status, not a message
			switch answer.Header.Get(headerStatus) {
			case statusEnd, statusNone:
				return msgs, nil
			}
			return msgs, errDoubtful // too many messages, no responders, or unreadable headers
		}
		m, ok := copied(answer, stream, true)
		if !ok || len(msgs) > 0 && m.Seq <= msgs[len(msgs)-1].Seq {
			return msgs, errDoubtful
		}
		msgs = append(msgs, m)
	}
}

// copied reads a stored message from a copy that the server has made, if it is one of that stream,
// and if the headers that the server has added can be told from the publisher's own. Answers to
// direct gets have one more than republished messages.
func copied(m *nats.Msg, stream string, answer bool) (Message, bool) {
	added := map[string]int{headerStream: 1, headerOnly: 1, headerSequence: 1, headerStored: 1, headerBefore: 1,
		headerPending: 0}
	if answer {
		added[headerPending] = 1
	}
	size, lines := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range m.Header {
		for _, v := range values {
			size += len(name) + len(": ") + len(v) + len("\r\n")
			lines++
		}
	}
	// Bytes that the parser did not show us (behind an early blank line, say) make the message
	// longer than its headers. No spelling of a line is more than two bytes shorter than ours, so
	// these few cannot make up for the hundred and fifty bytes that the server adds.
	if size+len(m.Subject)+len(m.Reply)+len(m.Data) != m.Size() || lines > 40 {
		return Message{}, false
	}
	for name, times := range added {
		if len(m.Header[name]) != times {
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
	for name := range added {
		delete(m.Header, name)
	}
	return Message{Subject: subject, Header: m.Header, Data: m.Data, Seq: seq, StoredAt: at}, true
}
