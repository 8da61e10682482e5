package ledger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/tracing"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The schema versions of events and engagement records, their field v.
const (
	// accessSchema is that of builds without event tokens: the message carries its actor's access
	// token. Nothing is written in it any more.
	accessSchema = 1
	// schema is what is written: the message carries an event token.
	schema = 2
)

// body is the JSON of an event. It names no person: IDs, places and words about the ride only.
type body struct {
	V       int               `json:"v"`
	Booking booking.ID        `json:"booking_id"`
	Actor   string            `json:"actor"`
	Role    booking.Role      `json:"role"`
	Command booking.CommandID `json:"command_id"`
	Request string            `json:"request,omitempty"`

	Pickup   *booking.Place `json:"pickup,omitempty"`
	Dropoff  *booking.Place `json:"dropoff,omitempty"`
	Quote    *booking.Quote `json:"quote,omitempty"`
	Deadline *time.Time     `json:"deadline,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Stars    int            `json:"stars,omitempty"`
}

// encode makes the message of one event. proof is the actor's event token, guard the sequence of
// the booking's last message that the event was decided upon, or 0 for a new booking.
func encode(e booking.Event, source, proof string, guard uint64) (*nats.Msg, error) {
	b := body{
		V: schema, Booking: e.Booking, Actor: e.Actor.ID, Role: e.Actor.Role, Command: e.Command,
		Request: e.Request,
		Pickup:  e.Pickup, Dropoff: e.Dropoff, Quote: e.Quote, Reason: e.Reason, Stars: e.Stars,
	}
	if !e.Deadline.IsZero() {
		d := e.Deadline.UTC()
		b.Deadline = &d
	}
	data, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode %s event: %w", e.Kind, err)
	}
	event := bus.CloudEvent{
		ID: string(e.ID), Type: bus.BookingTypePrefix + string(e.Kind), Source: source, Subject: string(e.Booking),
		Time: e.Decided.UTC().Format(time.RFC3339Nano),
	}
	return &nats.Msg{
		Subject: bus.EventSubject{Booking: e.Booking, N: e.N, Kind: e.Kind}.String(), Data: data,
		Header: guarded(event, proof, bus.EventsOf(e.Booking), guard),
	}, nil
}

// guarded returns the headers of an event that NATS stores only if after is the sequence of the
// last message that the filter matches; 0: there is none.
func guarded(e bus.CloudEvent, proof, filter string, after uint64) nats.Header {
	return e.Header(
		bus.HeaderLine{Name: bus.HeaderToken, Value: bus.Bearer + proof},
		bus.HeaderLine{Name: jetstream.MsgIDHeader, Value: e.ID},
		bus.HeaderLine{Name: jetstream.ExpectedLastSubjSeqHeader, Value: strconv.FormatUint(after, 10)},
		bus.HeaderLine{Name: jetstream.ExpectedLastSubjSeqSubjHeader, Value: filter})
}

// decode reads what a message says about itself, and its schema version. None of it is verified
// yet; see [verifier].
func decode(m bus.Message) (e booking.Event, version int, err error) {
	p, ok := bus.ParseEventSubject(m.Subject)
	if !ok {
		return booking.Event{}, 0, refuse("subject")
	}
	var b body
	if err := unmarshal(m.Data, &b); err != nil {
		return booking.Event{}, 0, err
	}
	if b.V != schema && b.V != accessSchema {
		return booking.Event{}, 0, refuse("schema")
	}
	if b.Booking != p.Booking || m.Header.Get(bus.HeaderType) != bus.BookingTypePrefix+string(p.Kind) ||
		m.Header.Get(bus.HeaderSubject) != string(p.Booking) {
		return booking.Event{}, 0, refuse("mismatch")
	}
	id := m.Header.Get(bus.HeaderID)
	if !booking.ValidID(id) || !booking.ValidID(string(b.Command)) || b.Request != "" && !booking.ValidID(b.Request) {
		return booking.Event{}, 0, refuse("body")
	}
	decided, err := time.Parse(time.RFC3339Nano, m.Header.Get(bus.HeaderTime))
	if err != nil {
		return booking.Event{}, 0, refuse("body")
	}
	e = booking.Event{
		ID: booking.EventID(id), Booking: p.Booking, N: p.N, Kind: p.Kind,
		Actor: booking.Actor{ID: b.Actor, Role: b.Role}, Command: b.Command, Request: b.Request,
		Decided: decided, At: m.StoredAt, Seq: m.Seq, Former: b.V == accessSchema,
		Trace: tracing.Sent(m.Header),
		Details: booking.Details{Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote, Reason: b.Reason,
			Stars: b.Stars},
	}
	if b.Deadline != nil {
		e.Deadline = *b.Deadline
	}
	return e, b.V, nil
}

// unmarshal reads the JSON of a body, or refuses it.
func unmarshal(data []byte, body any) error {
	if len(data) > maxBody || json.Unmarshal(data, body) != nil {
		return refuse("body")
	}
	return nil
}

// maxBody limits the bodies that are read at all. Events have a few hundred bytes.
const maxBody = 64 << 10
