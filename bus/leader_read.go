package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// AttemptPatience is how long one request waits for NATS. Shorter waits only pile up retries
	// behind a busy server.
	AttemptPatience = time.Second
	// ReadPatience is how long a read is retried. A killed leader is replaced within 5 to 8
	// seconds.
	ReadPatience = 10 * time.Second
)

// A GetRequest says which message [Conn.Get] returns: the message Seq, the last one that LastFor
// matches, or the first one from Seq on that NextFor matches.
type GetRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

// getResponse answers $JS.API.STREAM.MSG.GET.
type getResponse struct {
	Error   *jetstream.APIError `json:"error"`
	Message *struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Header  []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"`
}

// Get reads one message from the stream's leader, or returns jetstream.ErrMsgNotFound. (For a
// stream that allows direct gets, nats.go asks any replica instead.) It tries once.
func (c *Conn) Get(ctx context.Context, stream string, r GetRequest) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptPatience)
	defer cancel()
	req, err := json.Marshal(r)
	if err != nil {
		return Message{}, err
	}
	leads, err := c.lease(ctx, stream)
	if err != nil {
		return Message{}, err
	}
	answer, err := c.Request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + stream, Data: req})
	if err != nil {
		return Message{}, err
	}
	if time.Since(leads) > leaseLife {
		return Message{}, fmt.Errorf("stream %s: %w", stream, errNoQuorum)
	}
	var resp getResponse
	if err := json.Unmarshal(answer.Data, &resp); err != nil {
		return Message{}, fmt.Errorf("stream %s: %w", stream, err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == codeNoMessageFound:
		return Message{}, jetstream.ErrMsgNotFound
	case resp.Error != nil:
		return Message{}, resp.Error
	case resp.Message == nil:
		return Message{}, fmt.Errorf("stream %s: an answer without a message", stream)
	}
	m := Message{Subject: resp.Message.Subject, Data: resp.Message.Data, Seq: resp.Message.Seq,
		StoredAt: resp.Message.Time}
	if len(resp.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(resp.Message.Header); err != nil {
			m.Header = nil // unreadable headers carry no token
		}
	}
	return m, nil
}

// Last returns the last message that a subject filter matches, from the stream's leader, or
// jetstream.ErrMsgNotFound. It retries while a new leader is being elected.
func (c *Conn) Last(ctx context.Context, stream, filter string) (Message, error) {
	ctx, cancel := Within(ctx, ReadPatience)
	defer cancel()
	return RetryRead(ctx, c, func() (Message, error) {
		return c.Get(ctx, stream, GetRequest{LastFor: filter})
	})
}

// LastSequence returns the sequence of the message that Last returns, or 0 where there is none.
func (c *Conn) LastSequence(ctx context.Context, stream, filter string) (uint64, error) {
	m, err := c.Last(ctx, stream, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return m.Seq, err
}

// End returns the sequence of a stream's newest message, from its leader's description.
func (c *Conn) End(ctx context.Context, stream string) (uint64, error) {
	ctx, cancel := Within(ctx, ReadPatience)
	defer cancel()
	s, err := RetryRead(ctx, c, func() (jetstream.Stream, error) { return c.Stream(ctx, stream) })
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// LedgerAge returns how long the ledger keeps events. Errors are of kind fault.Unavailable.
func (c *Conn) LedgerAge(ctx context.Context) (time.Duration, error) {
	if err := c.EverConnected(); err != nil {
		return 0, err
	}
	s, err := c.Stream(ctx, LedgerStream)
	if err != nil {
		return 0, Unavailable("look at the ledger", err)
	}
	return s.CachedInfo().Config.MaxAge, nil
}

// RetryRead repeats a read for up to ReadPatience. It stops early where another try cannot help: no
// server has ever been reached, or what is read does not exist.
func RetryRead[T any](ctx context.Context, c *Conn, read func() (T, error)) (T, error) {
	p := Retries(ReadPatience)
	p.When = func(err error) bool {
		return c.EverConnected() == nil &&
			!errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrMsgNotFound)
	}
	return retry.Get(ctx, p, read)
}
