package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/internal/tracing"
)

// replicaPatience is how long a lagging replica is asked again before the leader is asked for
// every message.
const replicaPatience = 250 * time.Millisecond

// Load returns the verified history of a booking, in one round trip: subjects are unique, so the
// last message of each of the booking's subjects is the whole history.
//
// With booking.Quick the history may be one that this process has followed, and any replica may
// answer, even one that lags behind. With booking.Fresh the leader is asked first how far the
// history goes, and the answer goes exactly that far. The span of ctx, if any, is linked to that of
// the history's last event.
//
// Errors are of kind fault.Unavailable, or the context's.
func (l *Ledger) Load(ctx context.Context, id booking.ID, r booking.Reading) (booking.History, error) {
	h, err := l.load(ctx, id, r)
	tracing.Link(ctx, h.Trace())
	return h, err
}

func (l *Ledger) load(ctx context.Context, id booking.ID, r booking.Reading) (booking.History, error) {
	if h, ok := l.latest.Booking(id); ok && r == booking.Quick && ctx.Err() == nil {
		return h, nil
	}
	ctx, cancel := bus.Within(ctx, bus.ReadPatience)
	defer cancel()
	msgs, err := l.Messages(ctx, id, r)
	if err != nil {
		return booking.History{}, bus.Unavailable("load booking", err)
	}
	epoch := l.epoch.Version()
	h, err := l.fold(ctx, id, msgs)
	if err == nil {
		l.latest.Keep(epoch, h)
	}
	return h, err
}

// Messages returns all messages about a booking, in order, whatever they are worth.
func (l *Ledger) Messages(ctx context.Context, id booking.ID, r booking.Reading) ([]bus.Message, error) {
	ctx, cancel := bus.Within(ctx, bus.ReadPatience)
	defer cancel()
	var last uint64
	if r == booking.Fresh {
		var err error
		if last, err = l.lastOf(ctx, id); err != nil || last == 0 {
			return nil, err
		}
	}
	msgs, err := bus.RetryRead(ctx, l.conn, func() ([]bus.Message, error) {
		return l.messages(ctx, bus.EventsOf(id), last)
	})
	if r == booking.Fresh {
		// A replica may know an event before the leader does. The next read from another replica
		// would not find it again.
		msgs = slices.DeleteFunc(msgs, func(m bus.Message) bool { return m.Seq > last })
	}
	return msgs, err
}

// fold verifies messages in order, and applies those that follow.
func (l *Ledger) fold(ctx context.Context, id booking.ID, msgs []bus.Message) (booking.History, error) {
	var h booking.History
	for _, m := range msgs {
		h.Revision = m.Seq
		e, err := l.verify.check(ctx, m, bus.Message{})
		if err == nil {
			err = h.Apply(e)
		}
		if err == nil {
			h.Events = append(h.Events, e)
			continue
		}
		if errors.Is(err, booking.ErrAged) {
			continue // the beginning has aged, and with it the booking
		}
		if _, ok := RefusalReason(err); !ok {
			return booking.History{}, fmt.Errorf("load booking %s: %w", id, err)
		}
		if p, ok := bus.ParseEventSubject(m.Subject); ok {
			h.Refuse(p.N, p.Kind, 0)
		}
	}
	return h, nil
}

// messages returns the messages that a filter matches, up to sequence atLeast or further.
func (l *Ledger) messages(ctx context.Context, filter string, atLeast uint64) ([]bus.Message, error) {
	deadline := l.now().Add(replicaPatience)
	for wait := time.Millisecond; ; wait *= 2 {
		msgs, err := l.directAll(ctx, filter)
		if errors.Is(err, errAskLeader) {
			break
		}
		if err != nil {
			return nil, err
		}
		if atLeast == 0 || len(msgs) > 0 && msgs[len(msgs)-1].Seq >= atLeast {
			return msgs, nil
		}
		if l.now().After(deadline) {
			break
		}
		if !retry.Sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
	return l.conn.ReadAll(ctx, bus.LedgerStream, filter, 1)
}

// historyMost is how many messages of a history a replica is asked for. A ride has about five.
const historyMost = 128

// errAskLeader says that a replica's answer is too long, or could only come of a forged message.
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

// lastOf returns the sequence of a booking's last message, from the leader, or 0. It waits for a
// leader that lags behind a replica, so that a rider can accept what the board has shown.
func (l *Ledger) lastOf(ctx context.Context, id booking.ID) (uint64, error) {
	last, err := l.conn.LastSequence(ctx, bus.LedgerStream, bus.EventsOf(id))
	if err != nil {
		return 0, err
	}
	shown := l.shown(id)
	if last >= shown {
		return last, nil
	}
	reached := func() (struct{}, error) { return struct{}{}, l.reaches(ctx, shown) }
	if _, err := bus.RetryRead(ctx, l.conn, reached); err != nil {
		return 0, err
	}
	// less than shown only where that has aged meanwhile
	return l.conn.LastSequence(ctx, bus.LedgerStream, bus.EventsOf(id))
}

// storedAt returns the message at a sequence, from the leader. aged reports that it has aged.
func (l *Ledger) storedAt(ctx context.Context, seq uint64) (m bus.Message, aged bool, err error) {
	ctx, cancel := bus.Within(ctx, bus.ReadPatience)
	defer cancel()
	m, err = bus.RetryRead(ctx, l.conn, func() (bus.Message, error) {
		return l.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: seq})
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		aged, err = true, l.reaches(ctx, seq)
	}
	if err != nil {
		return bus.Message{}, false, bus.Unavailable("read the record of an acceptance", err)
	}
	return m, aged, nil
}

// reaches returns errBehind while the leader has not applied a sequence.
func (l *Ledger) reaches(ctx context.Context, seq uint64) error {
	s, err := l.conn.Stream(ctx, bus.LedgerStream)
	if err == nil && s.CachedInfo().State.LastSeq < seq {
		err = errBehind
	}
	return err
}
