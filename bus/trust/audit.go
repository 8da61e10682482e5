package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/tracing"
)

const (
	auditQueue = 4096 // entries in the queue
	// auditFlush limits the storing of entries when a process stops, within the two seconds that
	// stopping may take.
	auditFlush = 300 * time.Millisecond
	auditType  = "pillion.audit.auth."
)

// An AuditTrail stores what people did and tried in stream AUDIT, as audit.auth.<action>, for
// operators. Nothing depends on it.
type AuditTrail struct {
	conn    *bus.Conn
	source  string
	queue   chan *nats.Msg
	audited *prometheus.CounterVec
}

// NewAuditTrail returns a trail whose entries come from source, such as "/authsvc". Offer needs a
// running Run.
func NewAuditTrail(c *bus.Conn, source string) *AuditTrail {
	return &AuditTrail{
		conn: c, source: source, queue: make(chan *nats.Msg, auditQueue),
		audited: bus.Counters(c.Registerer(), "audit_entries_total", "Entries of the audit trail, by result.",
			"result", "stored", "dropped"),
	}
}

// Offer queues an entry and never waits, so that no login waits for the trail. While NATS is away
// entries queue up; those that do not fit are counted as dropped.
func (a *AuditTrail) Offer(ctx context.Context, what string, entry any) {
	m, err := a.message(ctx, what, entry)
	if err != nil {
		a.conn.Log().Error("audit entry cannot be encoded", "what", what, "error", err)
		return
	}
	select {
	case a.queue <- m:
	default:
		a.audited.WithLabelValues("dropped").Inc()
	}
}

// Write stores an entry and returns when it is stored. Errors are of kind fault.Unavailable.
func (a *AuditTrail) Write(ctx context.Context, what string, entry any) error {
	m, err := a.message(ctx, what, entry)
	if err != nil {
		return err
	}
	if err := a.store(ctx, m); err != nil {
		return bus.Unavailable("write the audit trail", err)
	}
	return nil
}

// Run stores queued entries, in order and each once, until ctx ends. It then stores the rest as far
// as that is quickly done, and returns nil.
func (a *AuditTrail) Run(ctx context.Context) error {
	for {
		select {
		case m := <-a.queue:
			a.storeUntilDone(ctx, m)
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
			defer cancel()
			for {
				select {
				case m := <-a.queue:
					a.storeOrDrop(rest, m)
				default:
					return nil
				}
			}
		}
	}
}

// storeUntilDone stores one entry, however long that takes. When ctx ends it tries once more.
func (a *AuditTrail) storeUntilDone(ctx context.Context, m *nats.Msg) {
	p := bus.Retries(0)
	p.Notify = func(err error, _ time.Duration) { a.conn.Log().Debug("audit trail is not available", "error", err) }
	if p.Do(ctx, func() error { return a.store(ctx, m) }) == nil {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
	defer cancel()
	a.storeOrDrop(last, m)
}

func (a *AuditTrail) storeOrDrop(ctx context.Context, m *nats.Msg) {
	if err := a.store(ctx, m); err != nil {
		a.audited.WithLabelValues("dropped").Inc()
	}
}

// store tries once. The message's ID makes NATS store a repetition only once.
func (a *AuditTrail) store(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	if _, err := a.conn.Publish(ctx, m, jetstream.WithExpectStream(bus.AuditStream)); err != nil {
		return err
	}
	a.audited.WithLabelValues("stored").Inc()
	return nil
}

// message makes the message of an entry, a CloudEvent as in the ledger but without a token.
func (a *AuditTrail) message(ctx context.Context, what string, entry any) (*nats.Msg, error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("encode audit entry: %w", err)
	}
	event := bus.CloudEvent{
		ID: booking.NewID(), Type: auditType + what, Source: a.source, Time: time.Now().UTC().Format(time.RFC3339Nano),
	}
	m := &nats.Msg{Subject: bus.AuditPrefix + what, Data: data, Header: event.Header()}
	m.Header[jetstream.MsgIDHeader] = []string{event.ID}
	tracing.Inject(ctx, m.Header)
	return m, nil
}
