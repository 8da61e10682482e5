package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/internal/tracing"
)

const (
	// appendPatience is how long an append is retried before its outcome is called unknown. A
	// killed leader is replaced within 5 to 8 seconds.
	appendPatience = 10 * time.Second
	// batchPatience is how long one try of a batch may take. A batch costs a server three writes to
	// its disk.
	batchPatience = 2 * time.Second
	// maxBatches limits the batches that one ledger has in flight. A stream rejects more than 50,
	// and a crowd that wants the same booking only delays the answer.
	maxBatches = 8
)

// Append stores the events of one command, all or none, guarded by the history that they were
// decided upon, and returns that history with them. One event is one guarded publish, several are
// one atomic batch.
//
// booking.ErrMoved means that nothing was stored because the booking has changed; the changed
// history comes with it, and the span of ctx is linked as by [Ledger.Load]. ErrFull means that
// nothing was stored because the room is reserved for other bookings, ErrNoRoom that there is none,
// and bus.ErrUnavailable that the events could not be sent or were rejected for the moment. After
// ErrOutcomeUnknown the same command may be retried: if it was stored, its command ID is found in
// the history.
//
// A lost acknowledgement never becomes a wrong answer. The same message IDs and guards are sent
// again; when the server then says that the guard is stale or the subject taken, the ledger asks
// the leader whether the stored events are the sent ones.
func (l *Ledger) Append(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event,
) (booking.History, error) {
	switch {
	case len(events) == 0:
		return after, nil
	case slices.ContainsFunc(events, func(e booking.Event) bool { return e.Kind == booking.Accepted }):
		return booking.History{}, booking.ErrNotEngaged
	}
	return l.append(ctx, c, id, after, events, nil)
}

// append stores events, and before them the engagement, if any.
func (l *Ledger) append(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, events []booking.Event,
	engages *engagement,
) (_ booking.History, err error) {
	sent, msgs, err := l.prepare(c, id, after, events, engages)
	if err != nil {
		return booking.History{}, err
	}
	request := ctx
	ctx, span := l.send(ctx, after, sent, msgs)
	defer func() { span.End(err) }()
	if err := l.conn.EverConnected(); err != nil {
		return booking.History{}, err
	}
	a := &appending{
		ledger: l, booking: id, guard: after.Revision, engages: engages, sent: sent, msgs: msgs,
		growth: growth(after.Booking, events),
	}
	limited, cancel := bus.Within(ctx, appendPatience)
	defer cancel()
	seq, err := retry.Get(limited, bus.Retries(appendPatience), func() (uint64, error) { return a.try(limited) })
	if errors.Is(err, booking.ErrMoved) {
		tracing.Link(request, a.moved.Trace())
		return a.moved, err
	}
	if a.silent != nil {
		l.conn.NotStored(ctx, bus.LedgerStream, a.silent, l.probe(sent[0].Kind))
	}
	if err != nil {
		return booking.History{}, l.appendFailed(limited, err, a.unknown)
	}
	l.conn.Stored(bus.LedgerStream)
	l.metrics.attempts.WithLabelValues("stored").Inc()
	atomicMax(&l.appended, seq)
	if engages != nil {
		l.verify.engaged.Add(seq, struct{}{})
	}
	next := after.Clone()
	for i := range sent {
		sent[i].Seq = seq - uint64(len(sent)-1-i) // a batch is stored without a gap
		e := sent[i]
		if err := next.Apply(e); err != nil {
			return booking.History{}, fmt.Errorf("apply %s to booking %s after it was stored: %w", e.Kind, id, err)
		}
		next.Events = append(next.Events, e)
		l.metrics.appended.WithLabelValues(string(e.Kind)).Inc()
	}
	next.Revision = seq
	l.latest.Wrote(after.Revision, sent...)
	return next, nil
}

// prepare gives the events their IDs and positions, checks that they follow, and makes their
// messages. The record of an engagement comes first.
func (l *Ledger) prepare(
	c booking.Command, id booking.ID, after booking.History, events []booking.Event, engages *engagement,
) ([]booking.Event, []*nats.Msg, error) {
	sequencer := after.EventSequencer.Clone()
	sent := make([]booking.Event, 0, len(events))
	msgs := make([]*nats.Msg, 0, len(events)+1)
	decided := l.now()
	for i, e := range events {
		e.ID, e.Booking, e.Command, e.Request = booking.EventID(l.newID()), id, c.ID, c.Request
		e.N, e.Decided, e.At = sequencer.Next(e.Kind), decided, decided
		e.Seq = after.Revision + 1 + uint64(i) // until the server assigns one
		if err := sequencer.Apply(e); err != nil {
			return nil, nil, fmt.Errorf("append %s to booking %s: %w", e.Kind, id, err)
		}
		m, err := encode(e, l.source, c.Proof, after.Revision)
		if err != nil {
			return nil, nil, err
		}
		sent, msgs = append(sent, e), append(msgs, m)
	}
	if engages != nil {
		m, err := engages.message(sent[0], l.source, c.Proof)
		if err != nil {
			return nil, nil, err
		}
		msgs = append([]*nats.Msg{m}, msgs...)
	}
	return sent, msgs, nil
}

// appending is the state of one append between its tries.
type appending struct {
	ledger  *Ledger
	booking booking.ID
	guard   uint64
	engages *engagement // nil: none
	sent    []booking.Event
	msgs    []*nats.Msg
	growth  int // messages for which room must be reserved

	unknown bool            // whether an earlier try may have been stored
	silent  error           // what the last try came to, unless the server accepted or rejected it
	moved   booking.History // what others have made of the booking
}

// try sends the messages once, and returns the sequence of the last one. A certain failure is
// permanent.
func (a *appending) try(ctx context.Context) (uint64, error) {
	l := a.ledger
	admitted, err := l.room.admit(ctx, a.growth)
	if err != nil && !certain(err) {
		return 0, err // and nothing was sent
	}
	var seq uint64
	if err == nil {
		admitted.guard(a.msgs[0])
		seq, err = l.group.publish(ctx, a.msgs)
		admitted.leave()
	}
	a.silent = nil
	switch outcomeOf(err) {
	case wrote:
		return seq, nil
	case refused:
		return 0, retry.Permanent(err)
	case decided: // by a write that may be our own
		seq, err = a.readBack(ctx, err)
		if errors.Is(err, errAdmission) {
			return 0, err // ask for room again
		}
		if err != nil && !certain(err) {
			a.unknown = true
			return 0, err
		}
		if err != nil {
			return 0, retry.Permanent(err)
		}
		return seq, nil
	default:
		if !unsent(err) {
			a.unknown, a.silent = true, err
		}
		l.metrics.attempts.WithLabelValues("retried").Inc()
		return 0, err
	}
}

// readBack asks the leader whether the history has the events as they were sent, and returns the
// sequence of the last one. Errors: booking.ErrMoved where other events are in their place (they go
// to a.moved) or the rider's engagement has changed; booking.ErrNotForYou where the rider has had
// this booking before; whyNot's where nothing is in their place.
func (a *appending) readBack(ctx context.Context, why error) (uint64, error) {
	l := a.ledger
	h, err := l.load(ctx, a.booking, booking.Fresh)
	if err != nil {
		return 0, err
	}
	want := a.sent[len(a.sent)-1]
	for _, e := range h.Events {
		if e.ID == want.ID && e.Command == want.Command {
			return e.Seq, nil
		}
	}
	if h.Revision == a.guard && a.engages != nil {
		if moved, err := a.engages.moved(ctx, l); moved || err != nil {
			l.metrics.attempts.WithLabelValues("moved").Inc()
			return 0, cmp.Or(err, error(booking.ErrMoved))
		}
	}
	if h.Revision == a.guard {
		if err := l.whyNot(ctx, a.msgs, why); err != nil {
			if certain(err) {
				l.metrics.attempts.WithLabelValues("full").Inc()
			}
			return 0, err
		}
	}
	l.metrics.attempts.WithLabelValues("moved").Inc()
	a.moved = h
	return 0, booking.ErrMoved
}

// whyNot explains why messages were not stored although nothing is in their place: there is no
// room, or another message has used the message ID, which is no error. A new decision has new IDs,
// so only a full ledger goes on rejecting.
func (l *Ledger) whyNot(ctx context.Context, msgs []*nats.Msg, err error) error {
	switch guarded := msgs[0].Header.Get(jetstream.ExpectedLastSeqHeader) != ""; {
	case errors.Is(err, ErrFull):
		return err
	case guarded && bus.APIError(err).ErrorCode == bus.CodeWrongLastSequence:
		return errAdmission
	}
	return l.room.refusedFor(ctx, msgs)
}

func (l *Ledger) appendFailed(ctx context.Context, err error, unknown bool) error {
	var f *fault.Error
	switch {
	case certain(err):
		return err
	case unknown:
		l.metrics.attempts.WithLabelValues("unknown").Inc()
		return ErrOutcomeUnknown.Because(err)
	case errors.As(err, &f) && ctx.Err() == nil:
		return err
	}
	return errNotRecorded.Because(fmt.Errorf("append: %w", err))
}

// once stores in the ledger, and tries once.
var once = []jetstream.PublishOpt{jetstream.WithExpectStream(bus.LedgerStream), jetstream.WithRetryAttempts(0)}

// publishOne sends the messages of one command once, and returns the sequence of the last one.
func (l *Ledger) publishOne(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	if len(msgs) > 1 {
		leave, err := l.enter(ctx, msgs[len(msgs)-1])
		if err != nil {
			return 0, err
		}
		defer leave()
		ctx, cancel := context.WithTimeout(ctx, batchPatience)
		defer cancel()
		return l.publishBatch(ctx, msgs)
	}
	h := msgs[0].Header // may have been in a batch that was refused
	h.Del(jetstreamext.BatchIDHeader)
	h.Del(jetstreamext.BatchSeqHeader)
	h.Del(jetstreamext.BatchCommitHeader)
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	ack, err := l.conn.Publish(ctx, msgs[0], once...)
	if err != nil {
		return 0, err
	}
	if ack.Duplicate { // a message with this ID is stored; the leader says whether it is ours
		return 0, errAckedBefore
	}
	return ack.Sequence, nil
}

// publishBatch sends messages once, as one batch, and returns the sequence of the last one.
func (l *Ledger) publishBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	if err := l.conn.AwaitUp(ctx); err != nil {
		return 0, err
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, l.js, msgs, jetstreamext.BatchFlowControl{AckFirst: false})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// enter waits for a slot for one more batch, and returns the function that frees it. If m's guard
// has become stale in the meantime, enter returns errOvertaken: asking is cheaper than a rejected
// batch.
func (l *Ledger) enter(ctx context.Context, m *nats.Msg) (leave func(), err error) {
	leave = func() { <-l.batches }
	select {
	case l.batches <- struct{}{}:
		return leave, nil
	default:
	}
	select {
	case l.batches <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNoTurn, ctx.Err())
	}
	last, err := l.conn.Get(ctx, bus.LedgerStream,
		bus.GetRequest{LastFor: m.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader)})
	if err == nil && strconv.FormatUint(last.Seq, 10) != m.Header.Get(jetstream.ExpectedLastSubjSeqHeader) {
		leave()
		return nil, errOvertaken
	}
	return leave, nil // the server will say what is wrong, if anything
}
