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
)

const (
	auditQueue = 4096 // entries that may wait to be stored
	// auditFlush is what is still stored when a process stops, within the two seconds that stopping may take.
	auditFlush = 300 * time.Millisecond
	auditType  = "pillion.audit.auth."
)

// An AuditTrail stores what people did and tried in stream AUDIT, as audit.auth.<what>, for operators to read. Nothing is decided by it.
type AuditTrail struct {
	conn    *bus.Conn
	source  string
	queue   chan *nats.Msg
	audited *prometheus.CounterVec
}

// AuditTrail returns a trail whose entries come from source, such as "/authsvc". Whoever calls Offer must call Run.
func NewAuditTrail(c *bus.Conn, source string) *AuditTrail {
	return &AuditTrail{
		conn: c, source: source, queue: make(chan *nats.Msg, auditQueue),
		audited: bus.MustRegister(c.Registerer(), prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "audit_entries_total",
			Help: "Entries of the audit trail by what came of them: stored, dropped.",
		}, []string{"result"})),
	}
}

// Offer hands an entry over to be stored. It never waits, so that nobody's login waits for the trail: while NATS is away entries queue up, and
// what does not fit is counted as dropped.
func (a *AuditTrail) Offer(ctx context.Context, what string, entry any) {
	m, err := a.message(ctx, what, entry)
	if err != nil {
		a.conn.Log().Error("audit entry cannot be written down", "what", what, "error", err)
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

// Run stores what is offered until ctx ends, in its order and each entry once, and then what is still waiting, as far as that is quickly
// done. It returns nil.
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
					if err := a.store(rest, m); err != nil {
						a.audited.WithLabelValues("dropped").Inc()
					}
				default:
					return nil
				}
			}
		}
	}
}

// insist stores one entry, however long that takes. When ctx ends it tries once more.
func (a *AuditTrail) storeUntilDone(ctx context.Context, m *nats.Msg) {
	pace := bus.NewBackOff()
	for {
		err := a.store(ctx, m)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
			defer cancel()
			if err := a.store(last, m); err != nil {
				a.audited.WithLabelValues("dropped").Inc()
			}
			return
		}
		a.conn.Log().Debug("audit trail is not available", "error", err)
		select {
		case <-time.After(pace.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// store tries once. The message's id lets a repetition be stored once.
func (a *AuditTrail) store(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	if _, err := a.conn.Publish(ctx, m, jetstream.WithExpectStream(bus.AuditStream)); err != nil {
		return err
	}
	a.audited.WithLabelValues("stored").Inc()
	return nil
}

// message makes the message of an entry: CloudEvents 1.0 in NATS binary mode, as in the ledger, but for the token.
func (a *AuditTrail) message(ctx context.Context, what string, entry any) (*nats.Msg, error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("encode audit entry: %w", err)
	}
	id := booking.NewID()
	m := &nats.Msg{Subject: bus.AuditPrefix + what, Data: data, Header: nats.Header{
		bus.HeaderSpecVersion: {"1.0"},
		bus.HeaderID:          {id},
		bus.HeaderType:        {auditType + what},
		bus.HeaderSource:      {a.source},
		bus.HeaderTime:        {time.Now().UTC().Format(time.RFC3339Nano)},
		bus.HeaderContentType: {"application/json"},
		jetstream.MsgIDHeader: {id},
	}}
	bus.InjectTrace(ctx, m.Header)
	return m, nil
}
