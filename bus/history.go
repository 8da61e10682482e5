package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natsext"

	"github.com/example/pillion/booking"
)

const (
	// readPatience is how long a read is tried: as long as an append, for the same reason.
	readPatience = 10 * time.Second
	// replicaPatience is how long a replica may lag behind the leader before the leader is asked for every message.
	replicaPatience = 250 * time.Millisecond
)

// Load returns the verified history of a booking, in one round trip: every subject is unique, so the last message of each of the
// booking's subjects is all there is.
//
// Any replica may answer that, also one that has not heard of the newest events yet. With booking.Fresh the leader is asked
// first how far the history goes, and the answer reaches at least there.
//
// Errors are of kind fault.Unavailable, or the context's.
func (l *Ledger) Load(ctx context.Context, id booking.ID, r booking.Reading) (booking.History, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	var atLeast uint64
	if r == booking.Fresh {
		var err error
		if atLeast, err = l.lastOf(ctx, id); err != nil {
			return booking.History{}, unavailable("load booking", err)
		}
		if atLeast == 0 {
			return booking.History{}, nil
		}
	}
	msgs, err := retryRead(ctx, l.conn, func() ([]stored, error) { return l.messages(ctx, aggregate(id), atLeast) })
	if err != nil {
		return booking.History{}, unavailable("load booking", err)
	}
	if r == booking.Fresh {
		// A replica may know of an event before the leader does. Whoever asks next, and is answered by another, would see it gone again.
		msgs = slices.DeleteFunc(msgs, func(m stored) bool { return m.seq > atLeast })
	}
	return l.fold(ctx, id, msgs)
}

// fold verifies messages in their order and applies what may be applied.
func (l *Ledger) fold(ctx context.Context, id booking.ID, msgs []stored) (booking.History, error) {
	var h booking.History
	for _, m := range msgs {
		h.Revision = m.seq
		e, err := l.verify.check(ctx, m)
		if err == nil {
			err = h.Apply(e)
		}
		if err == nil {
			h.Events = append(h.Events, e)
			continue
		}
		if errors.Is(err, booking.ErrAged) {
			continue // its beginning is gone: there is no booking to speak of
		}
		if _, ok := refusalOf(err); !ok {
			return booking.History{}, fmt.Errorf("load booking %s: %w", id, err)
		}
		if p, ok := parseSubject(m.subject); ok {
			h.Refuse(p.n, p.kind, 0)
		}
	}
	return h, nil
}

// messages returns what is stored on the subjects of a filter, reaching at least sequence atLeast.
func (l *Ledger) messages(ctx context.Context, filter string, atLeast uint64) ([]stored, error) {
	deadline := l.now().Add(replicaPatience)
	for wait := time.Millisecond; ; wait *= 2 {
		msgs, err := l.directAll(ctx, filter)
		if errors.Is(err, errAskLeader) {
			break
		}
		if err != nil {
			return nil, err
		}
		if atLeast == 0 || len(msgs) > 0 && msgs[len(msgs)-1].seq >= atLeast {
			return msgs, nil
		}
		if l.now().After(deadline) {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return l.leaderAll(ctx, filter, 1)
}

// errAskLeader says that an answer by a replica is too long, or not what a well-meaning publisher could have caused.
var errAskLeader = errors.New("ask the leader")

// The headers that the server adds to an answer, behind those that the publisher stored with the message. It does not replace
// what the publisher called by the same names.
const (
	headerStream   = "Nats-Stream"
	headerOnly     = "Nats-Subject"
	headerSequence = "Nats-Sequence"
	headerStored   = "Nats-Time-Stamp"
	headerStatus   = "Status"

	statusEnd  = "204"
	statusNone = "404"
)

// directAll asks whichever replica answers for all messages on the subjects of a filter.
//
// The answer's headers carry the sequence and the time of storing beside whatever the publisher wrote, so a publisher could
// pretend to either, and could end the answer early. Whatever is not exactly what the server makes of an honest message is
// therefore errAskLeader.
func (l *Ledger) directAll(ctx context.Context, filter string) ([]stored, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	req, err := json.Marshal(map[string]any{"multi_last": []string{filter}})
	if err != nil {
		return nil, err
	}
	if err := l.conn.link.wait(ctx); err != nil {
		return nil, err
	}
	ended := false
	answers, err := natsext.RequestMany(ctx, l.conn.nc, "$JS.API.DIRECT.GET."+LedgerStream, req,
		natsext.RequestManySentinel(func(m *nats.Msg) bool {
			ended = m.Header.Get(headerStatus) == statusEnd && len(m.Header[headerSequence]) == 0
			return ended
		}))
	if err != nil {
		return nil, err
	}
	var msgs []stored
	for m, err := range answers {
		if err != nil {
			return nil, err
		}
		if len(m.Header[headerSequence]) == 0 { // about the request and not a message
			if m.Header.Get(headerStatus) == statusNone {
				return nil, nil
			}
			return nil, errAskLeader // too many for one answer; nobody there; or headers that cannot be read
		}
		s, ok := directMessage(m)
		if !ok || len(msgs) > 0 && s.seq <= msgs[len(msgs)-1].seq {
			return nil, errAskLeader
		}
		msgs = append(msgs, s)
	}
	if !ended {
		return nil, fmt.Errorf("direct get: %w", context.DeadlineExceeded)
	}
	return msgs, nil
}

// directMessage reads the server's word about a message from an answer's headers, if it can be told from the publisher's.
func directMessage(m *nats.Msg) (stored, bool) {
	size, lines := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range m.Header {
		for _, v := range values {
			size += len(name) + len(": ") + len(v) + len("\r\n")
			lines++
		}
	}
	// Bytes that the parser did not show us (behind an early blank line, say) make the message longer than its headers. No
	// spelling of a line is more than two bytes shorter than ours, so that these few cannot make up for the hundred and fifty
	// that the server added.
	if size+len(m.Subject)+len(m.Reply)+len(m.Data) != m.Size() || lines > 40 {
		return stored{}, false
	}
	for _, name := range []string{headerStream, headerOnly, headerSequence, headerStored} {
		if len(m.Header[name]) != 1 {
			return stored{}, false
		}
	}
	seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return stored{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerStored))
	if err != nil {
		return stored{}, false
	}
	return stored{subject: m.Header.Get(headerOnly), header: m.Header, data: m.Data, seq: seq, at: at}, true
}

// leaderFew is how many messages the leader is asked for one by one. A consumer costs more than that, and reads what is left at once.
const leaderFew = 16

// leaderAll reads all messages of a filter from a sequence on, as far as the leader has them. It is slower than directAll, and always
// right: the server's word about a message stands beside the message and not in it.
func (l *Ledger) leaderAll(ctx context.Context, filter string, from uint64) ([]stored, error) {
	var msgs []stored
	for len(msgs) < leaderFew {
		m, err := l.conn.leaderGet(ctx, LedgerStream, getRequest{Seq: from, NextFor: filter})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return msgs, nil
		}
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, m)
		from = m.seq + 1
	}
	last, err := l.lastOn(ctx, filter)
	if err != nil || last < from {
		return msgs, err
	}
	more, err := l.conn.readTo(ctx, LedgerStream, filter, from, last)
	return append(msgs, more...), err
}

// lastOf returns the sequence of a booking's last message, as the leader has it, or 0. Replicas may apply an entry before the
// leader does. So the leader is waited for, where it lacks what this process has shown to a rider.
func (l *Ledger) lastOf(ctx context.Context, id booking.ID) (uint64, error) {
	last, err := l.lastOn(ctx, aggregate(id))
	if err != nil {
		return 0, err
	}
	shown := l.shown(id)
	if last >= shown {
		return last, nil
	}
	if _, err := retryRead(ctx, l.conn, func() (struct{}, error) { return struct{}{}, l.reaches(ctx, shown) }); err != nil {
		return 0, err
	}
	return l.lastOn(ctx, aggregate(id)) // less than was shown only where that has aged meanwhile
}

// reaches returns errBehind where the leader has not applied a sequence yet.
func (l *Ledger) reaches(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := l.conn.stream(ctx, LedgerStream)
	if err == nil && s.CachedInfo().State.LastSeq < seq {
		err = errBehind
	}
	return err
}

// lastOn returns the sequence of the last message that a filter lets pass, as the leader has it, or 0.
func (l *Ledger) lastOn(ctx context.Context, filter string) (uint64, error) {
	m, err := l.conn.leaderLast(ctx, LedgerStream, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return m.seq, err
}

// LastSequence returns the sequence of the ledger's newest message, as the leader knows it.
func (l *Ledger) LastSequence(ctx context.Context) (uint64, error) {
	last, err := l.lastOn(ctx, ledgerSubjects)
	if err != nil {
		return 0, unavailable("ask for the last sequence", err)
	}
	return last, nil
}

// leaderLast returns the last message of a subject, or jetstream.ErrMsgNotFound. It is patient with a leader on its way.
func (c *Conn) leaderLast(ctx context.Context, stream, subject string) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	return retryRead(ctx, c, func() (stored, error) {
		return c.leaderGet(ctx, stream, getRequest{LastFor: subject})
	})
}

// getRequest is the body of $JS.API.STREAM.MSG.GET.
type getRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

// leaderGet reads one message from the stream's leader, which nats.go does not do for a stream that allows direct gets. It
// returns jetstream.ErrMsgNotFound where there is none.
func (c *Conn) leaderGet(ctx context.Context, stream string, r getRequest) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	req, err := json.Marshal(r)
	if err != nil {
		return stored{}, err
	}
	leads, err := c.lease(ctx, stream)
	if err != nil {
		return stored{}, err
	}
	answer, err := c.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + stream, Data: req})
	if err != nil {
		return stored{}, err
	}
	if time.Since(leads) > leaseLife {
		return stored{}, fmt.Errorf("stream %s: %w", stream, errAlone)
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
		return stored{}, fmt.Errorf("stream %s: %w", stream, err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == errNoMessageFound:
		return stored{}, jetstream.ErrMsgNotFound
	case resp.Error != nil:
		return stored{}, resp.Error
	case resp.Message == nil:
		return stored{}, fmt.Errorf("stream %s: an answer without a message", stream)
	}
	m := stored{subject: resp.Message.Subject, data: resp.Message.Data, seq: resp.Message.Seq, at: resp.Message.Time}
	if len(resp.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(resp.Message.Header); err != nil {
			m.header = nil // its publisher wrote no headers that can be read, so it carries no token
		}
	}
	return m, nil
}

// retryRead repeats a read until it succeeds or ctx ends: a leader may be on its way.
func retryRead[T any](ctx context.Context, c *Conn, read func() (T, error)) (T, error) {
	try := func() (T, error) {
		v, err := read()
		if err != nil && (c.reachable() != nil || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound)) {
			err = backoff.Permanent(err)
		}
		return v, err
	}
	return backoff.Retry(ctx, try, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(readPatience))
}

// newBackOff paces the tries of one append or read.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 500 * time.Millisecond,
	}
}
