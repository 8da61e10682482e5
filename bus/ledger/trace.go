package ledger

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/tracing"
)

// send begins the span of storing events, which follows from that of the event before them, and
// names it in the events and their messages. The record of an engagement is no event.
func (l *Ledger) send(
	ctx context.Context, after booking.History, sent []booking.Event, msgs []*nats.Msg,
) (context.Context, tracing.Span) {
	msgs = msgs[len(msgs)-len(sent):]
	ctx, span := l.conn.Tracer().Send(ctx, tracing.Message{
		Subject: msgs[0].Subject, ID: string(sent[0].ID), Booking: string(sent[0].Booking),
	}, after.Trace())
	for i := range sent {
		sent[i].Trace = tracing.Inject(ctx, msgs[i].Header)
	}
	return ctx, span
}

// Process begins the span of a consumer's work on the change.
func (c *Change) Process(
	ctx context.Context, t *tracing.Tracer, consumer string, began time.Time,
) (context.Context, tracing.Span) {
	e := &c.Event
	if t == nil || e.Trace == "" {
		return ctx, tracing.Span{}
	}
	return t.Process(ctx, tracing.Message{
		Subject: bus.EventSubject{Booking: e.Booking, N: e.N, Kind: e.Kind}.String(), ID: string(e.ID),
		Booking: string(e.Booking), Consumer: consumer, Began: began,
	}, e.Trace)
}

// passed records the span of the pass: verification and the board.
func (f *Follower) passed(ctx context.Context, c *Change, began time.Time) {
	if c != nil {
		_, span := c.Process(ctx, f.ledger.conn.Tracer(), "pass", began)
		span.End(nil)
	}
}

// A replay is the span of reading what the ledger had when following began.
type replay struct {
	span     tracing.Span
	messages uint64
	over     bool
}

func (r *replay) begin(ctx context.Context, f *Follower) {
	_, r.span = f.ledger.conn.Tracer().Task(ctx, "replay the ledger")
	r.read(f, &batch{})
}

// read notes that the board has a batch.
func (r *replay) read(f *Follower, b *batch) {
	if r.over {
		return
	}
	r.messages += uint64(len(b.messages))
	if r.over = f.board.Seq() >= f.target.Load(); r.over {
		r.span.EndOf(r.messages, nil)
	}
}
