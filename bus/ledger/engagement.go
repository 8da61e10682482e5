package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// An engagement is stored with an acceptance, in the same atomic batch: a record that the rider has
// accepted the booking. Its guard is the rider's last record, so that two acceptances by one rider
// cannot both be stored. It changes no booking and is not an event: readers skip it. The rider's
// token proves that it is genuine.
type engagement struct {
	rider booking.RiderID
	id    booking.ID
	after uint64 // sequence of the rider's last record, as decided upon
}

// An EngagementRecord is the JSON of an engagement.
type EngagementRecord struct {
	V       int               `json:"v"`
	Rider   booking.RiderID   `json:"rider"`
	Booking booking.ID        `json:"booking_id"`
	Event   booking.EventID   `json:"event_id"` // of the acceptance
	Command booking.CommandID `json:"command_id"`
}

// Engage stores an acceptance, and that its rider is engaged in the booking. See booking.Log, and
// [Ledger.Append] for the errors.
func (l *Ledger) Engage(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, at booking.Engagement,
	accepted booking.Event,
) (booking.History, error) {
	if accepted.Kind != booking.Accepted || !booking.ValidID(accepted.Actor.ID) {
		return booking.History{}, fmt.Errorf("engage in booking %s: %s by %s is not an acceptance", id, accepted.Kind,
			accepted.Actor.ID)
	}
	return l.append(ctx, c, id, after, []booking.Event{accepted}, &engagement{
		rider: booking.RiderID(accepted.Actor.ID), id: id, after: at.Revision,
	})
}

// Engagement returns the last booking that the rider has accepted: from the leader, unless a Quick
// reading finds it in memory. It skips records that the rider's own token does not prove, but its
// Revision is that of the last record of all. Errors are of kind fault.Unavailable, or the
// context's.
func (l *Ledger) Engagement(
	ctx context.Context, rider booking.RiderID, r booking.Reading,
) (booking.Engagement, error) {
	if !booking.ValidID(string(rider)) {
		return booking.Engagement{}, nil
	}
	if at, ok := l.latest.Rider(rider); ok && r == booking.Quick {
		return at, nil
	}
	m, err := l.conn.Last(ctx, bus.LedgerStream, bus.EngagementsOf(rider))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return booking.Engagement{}, nil
	}
	if err != nil {
		return booking.Engagement{}, bus.Unavailable("look for the rider's ride", err)
	}
	at := booking.Engagement{Revision: m.Seq}
	at.Booking, err = l.VerifyEngagement(ctx, m)
	if _, refused := RefusalReason(err); refused { // the last one is forged: find the one before
		at.Booking, err = l.engagedBefore(ctx, rider)
	}
	if err != nil {
		return booking.Engagement{}, bus.Unavailable("look for the rider's ride", err)
	}
	return at, nil
}

// engagedBefore reads all records of a rider, and returns the booking of the last genuine one, or
// "".
func (l *Ledger) engagedBefore(ctx context.Context, r booking.RiderID) (booking.ID, error) {
	ctx, cancel := bus.Within(ctx, bus.ReadPatience)
	defer cancel()
	all, err := bus.RetryRead(ctx, l.conn, func() ([]bus.Message, error) {
		return l.conn.ReadAll(ctx, bus.LedgerStream, bus.EngagementsOf(r), 1)
	})
	if err != nil {
		return "", err
	}
	for i := len(all) - 1; i >= 0; i-- {
		id, err := l.VerifyEngagement(ctx, all[i])
		if _, refused := RefusalReason(err); !refused {
			return id, err
		}
	}
	return "", nil
}

// VerifyEngagement returns the booking that a record says its rider has accepted. Errors: those of
// Verify.
func (l *Ledger) VerifyEngagement(ctx context.Context, m bus.Message) (booking.ID, error) {
	rider, id, ok := bus.ParseEngagedSubject(m.Subject)
	if !ok {
		return "", refuse("subject")
	}
	var b EngagementRecord
	if err := unmarshal(m.Data, &b); err != nil {
		return "", err
	}
	if b.V != schema && b.V != accessSchema {
		return "", refuse("schema")
	}
	claims, err := l.verify.claims(ctx, m, b.V)
	switch {
	case err != nil:
		return "", err
	case booking.Role(claims.Role) != booking.Rider:
		return "", refuse("role")
	case claims.Subject != string(rider):
		return "", refuse("actor")
	}
	return id, nil
}

// message makes the record that is stored with event e.
func (x *engagement) message(e booking.Event, source, proof string) (*nats.Msg, error) {
	data, err := json.Marshal(EngagementRecord{V: schema, Rider: x.rider, Booking: x.id, Event: e.ID,
		Command: e.Command})
	if err != nil {
		return nil, fmt.Errorf("encode engagement: %w", err)
	}
	event := bus.CloudEvent{
		ID: booking.DeriveID("engaged", string(e.ID)), Type: "pillion.rider.engaged", Source: source,
		Subject: string(x.rider),
		Time:    e.Decided.UTC().Format(time.RFC3339Nano),
	}
	return &nats.Msg{
		Subject: bus.EngagedSubject(x.rider, x.id), Data: data,
		Header: guarded(event, proof, bus.EngagementsOf(x.rider), x.after),
	}, nil
}

// moved reports whether the rider's last record is no longer the one that x was decided upon, or
// the rider has accepted the booking. It returns booking.ErrNotForYou where x can never be stored,
// because a record without an acceptance has taken its subject.
func (x *engagement) moved(ctx context.Context, l *Ledger) (bool, error) {
	last, err := l.conn.Last(ctx, bus.LedgerStream, bus.EngagementsOf(x.rider))
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, bus.Unavailable("look for the rider's ride", err)
	}
	if last.Seq != x.after {
		return true, nil
	}
	record, err := l.conn.Last(ctx, bus.LedgerStream, bus.EngagedSubject(x.rider, x.id))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, bus.Unavailable("look for the rider's ride", err)
	}
	// A batch is stored at once, and becomes visible one message after the other.
	behind, _, err := l.storedAt(ctx, record.Seq+1)
	if err != nil {
		return false, err
	}
	if p, ok := bus.ParseEventSubject(behind.Subject); ok && p.Booking == x.id && p.Kind == booking.Accepted {
		return true, nil
	}
	return false, booking.ErrNotForYou
}
