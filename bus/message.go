package bus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
)

// One event is one message: CloudEvents 1.0 in NATS binary mode (the context attributes are headers, the data is the body).
// docs/events.md is the reference.
const (
	headerSpecVersion = "ce-specversion"
	headerID          = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject"
	headerTime        = "ce-time"
	headerContentType = "Content-Type"
	headerToken       = "Authorization"

	typePrefix    = "pillion.booking."
	bearer        = "Bearer "
	schemaVersion = 1
)

// body is the JSON of an event. Nothing in it names a person: ids, places and words about the ride only.
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

// encode makes the message of one event. proof is the actor's token, guard the sequence of the last message of the booking
// that the event was decided upon: every write carries it, 0 meaning that the booking must be new.
func encode(e booking.Event, source, proof string, guard uint64) (*nats.Msg, error) {
	b := body{
		V: schemaVersion, Booking: e.Booking, Actor: e.Actor.ID, Role: e.Actor.Role, Command: e.Command, Request: e.Request,
		Pickup: e.Pickup, Dropoff: e.Dropoff, Quote: e.Quote, Reason: e.Reason, Stars: e.Stars,
	}
	if !e.Deadline.IsZero() {
		d := e.Deadline.UTC()
		b.Deadline = &d
	}
	data, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode %s event: %w", e.Kind, err)
	}
	return &nats.Msg{
		Subject: position{e.Booking, e.N, e.Kind}.subject(),
		Data:    data,
		Header: nats.Header{
			headerSpecVersion: {"1.0"},
			headerID:          {string(e.ID)},
			headerType:        {typePrefix + string(e.Kind)},
			headerSource:      {source},
			headerSubject:     {string(e.Booking)},
			headerTime:        {e.Decided.UTC().Format(time.RFC3339Nano)},
			headerContentType: {"application/json"},
			headerToken:       {bearer + proof},

			jetstream.MsgIDHeader:                   {string(e.ID)},
			jetstream.ExpectedLastSubjSeqHeader:     {strconv.FormatUint(guard, 10)},
			jetstream.ExpectedLastSubjSeqSubjHeader: {aggregate(e.Booking)},
		},
	}, nil
}

// stored is one message of the ledger with what the server, and not its publisher, says about it.
type stored struct {
	subject string
	header  nats.Header
	data    []byte
	seq     uint64
	at      time.Time
}

// decode reads a message's own claims about itself. It believes none of them; see [reverifier].
func decode(m stored) (booking.Event, error) {
	p, ok := parseSubject(m.subject)
	if !ok {
		return booking.Event{}, refuse("subject")
	}
	if len(m.data) > maxBody {
		return booking.Event{}, refuse("body")
	}
	var b body
	if err := json.Unmarshal(m.data, &b); err != nil {
		return booking.Event{}, refuse("body")
	}
	if b.V != schemaVersion {
		return booking.Event{}, refuse("schema")
	}
	if b.Booking != p.booking || m.header.Get(headerType) != typePrefix+string(p.kind) || m.header.Get(headerSubject) != string(p.booking) {
		return booking.Event{}, refuse("mismatch")
	}
	id := m.header.Get(headerID)
	if !booking.ValidID(id) || !booking.ValidID(string(b.Command)) || b.Request != "" && !booking.ValidID(b.Request) {
		return booking.Event{}, refuse("body")
	}
	decided, err := time.Parse(time.RFC3339Nano, m.header.Get(headerTime))
	if err != nil {
		return booking.Event{}, refuse("body")
	}
	e := booking.Event{
		ID: booking.EventID(id), Booking: p.booking, N: p.n, Kind: p.kind,
		Actor: booking.Actor{ID: b.Actor, Role: b.Role}, Command: b.Command, Request: b.Request,
		Decided: decided, At: m.at, Seq: m.seq,
		Details: booking.Details{Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote, Reason: b.Reason, Stars: b.Stars},
	}
	if b.Deadline != nil {
		e.Deadline = *b.Deadline
	}
	return e, nil
}

// maxBody bounds what is even looked at: an event of ours has a few hundred bytes.
const maxBody = 64 << 10
