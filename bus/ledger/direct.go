package ledger

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
)

const (
	historyMost = 128 // messages of a history in one direct get; a ride has about five
	readMost    = 256 // messages of the ledger in one direct get
)

// errAskLeader says that a replica's answer is too long, or could only be caused by a forged
// message.
var errAskLeader = errors.New("ask the leader")

// directAll asks any replica for all messages that a filter matches.
func (l *Ledger) directAll(ctx context.Context, filter string) ([]bus.Message, error) {
	msgs, clear, err := l.conn.DirectGet(ctx, bus.LedgerStream,
		bus.DirectRequest{Last: []string{filter}, Batch: historyMost})
	if err == nil && (!clear || len(msgs) == historyMost) {
		err = errAskLeader
	}
	return msgs, err
}

// next returns the messages that a filter matches from a sequence on, without a gap: some of them,
// or none where the leader has none.
func (l *Ledger) next(ctx context.Context, filter string, from uint64) ([]bus.Message, error) {
	msgs, _, err := l.conn.DirectGet(ctx, bus.LedgerStream,
		bus.DirectRequest{Seq: from, Filter: filter, Batch: readMost})
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
