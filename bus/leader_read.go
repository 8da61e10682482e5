package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// attemptPatience is how long one request to NATS waits for its answer. Shorter ones only pile up
	// retries behind a busy server.
	AttemptPatience = time.Second
	// readPatience is how long a read is tried. A killed leader is replaced within 5 to 8 seconds.
	ReadPatience = 10 * time.Second
)

// leaderLast returns the last message of a subject, or jetstream.ErrMsgNotFound. It is patient with a leader on its way.
func (c *Conn) Last(ctx context.Context, stream, subject string) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, ReadPatience)
	defer cancel()
	return RetryRead(ctx, c, func() (Message, error) {
		return c.Get(ctx, stream, GetRequest{LastFor: subject})
	})
}

// getRequest is the body of $JS.API.STREAM.MSG.GET.
type GetRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

// leaderGet reads one message from the stream's leader, which nats.go does not do for a stream that allows direct gets. It
// returns jetstream.ErrMsgNotFound where there is none.
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
	var resp struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
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
	m := Message{Subject: resp.Message.Subject, Data: resp.Message.Data, Seq: resp.Message.Seq, StoredAt: resp.Message.Time}
	if len(resp.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(resp.Message.Header); err != nil {
			m.Header = nil // its publisher wrote no headers that can be read, so it carries no token
		}
	}
	return m, nil
}

// retryRead repeats a read until it succeeds or ctx ends: a leader may be on its way.
func RetryRead[T any](ctx context.Context, c *Conn, read func() (T, error)) (T, error) {
	try := func() (T, error) {
		v, err := read()
		if err != nil && (c.EverConnected() != nil || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound)) {
			err = backoff.Permanent(err)
		}
		return v, err
	}
	return backoff.Retry(ctx, try, backoff.WithBackOff(NewBackOff()), backoff.WithMaxElapsedTime(ReadPatience))
}

// newBackOff paces the tries of one append or read.
func NewBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 500 * time.Millisecond,
	}
}

// pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// LedgerAge returns how long the ledger keeps events, from its leader. Errors are of kind fault.Unavailable.
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

// lastOn returns the sequence of the last message that a filter lets pass, as the leader has it, or 0.
func (c *Conn) LastSequence(ctx context.Context, stream, filter string) (uint64, error) {
	m, err := c.Last(ctx, stream, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return m.Seq, err
}
