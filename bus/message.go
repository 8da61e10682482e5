package bus

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of messages, which are CloudEvents 1.0 in NATS binary mode: the context attributes are
// headers, the data is the body. docs/events.md is the reference.
const (
	HeaderID          = "ce-id"
	HeaderType        = "ce-type"
	HeaderSubject     = "ce-subject"
	HeaderTime        = "ce-time"
	HeaderContentType = "Content-Type"
	HeaderToken       = "Authorization"

	headerSpecVersion = "ce-specversion"
	headerSource      = "ce-source"

	// Bearer precedes the token in HeaderToken.
	Bearer = "Bearer "
	// BookingTypePrefix begins the type of what happens to a booking.
	BookingTypePrefix = "pillion.booking."
	// SchemaVersion is the version of the feed's bodies, their field v.
	SchemaVersion = 1
)

// A CloudEvent is the context attributes of a message. Source and Subject are optional.
type CloudEvent struct {
	ID, Type, Source, Subject, Time string
}

// A HeaderLine is one line of a message's headers.
type HeaderLine struct{ Name, Value string }

// Header returns the headers of a message with a JSON body, and more lines. It leaves out empty
// values.
func (e CloudEvent) Header(more ...HeaderLine) nats.Header {
	all := [...]HeaderLine{
		{headerSpecVersion, "1.0"}, {HeaderID, e.ID}, {HeaderType, e.Type}, {HeaderTime, e.Time},
		{HeaderContentType, "application/json"}, {headerSource, e.Source}, {HeaderSubject, e.Subject},
	}
	h := make(nats.Header, len(all)+len(more))
	values := make([]string, 0, len(all)+len(more)) // in one allocation
	for _, lines := range [...][]HeaderLine{all[:], more} {
		for _, l := range lines {
			if l.Value != "" {
				values = append(values, l.Value)
				h[l.Name] = values[len(values)-1 : len(values) : len(values)]
			}
		}
	}
	return h
}

// A Message is a stored message. Seq and StoredAt are the server's word, all else the publisher's.
type Message struct {
	Subject  string
	Header   nats.Header
	Data     []byte
	Seq      uint64
	StoredAt time.Time
}

// messageOf returns a consumer's message.
func messageOf(m jetstream.Msg, meta *jetstream.MsgMetadata) Message {
	return Message{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Seq: meta.Sequence.Stream,
		StoredAt: meta.Timestamp}
}

// Digest returns a hash of everything in the message.
func (m Message) Digest() []byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte(m.Subject))
	part(binary.BigEndian.AppendUint64(nil, m.Seq))
	part(binary.BigEndian.AppendUint64(nil, uint64(m.StoredAt.UnixNano())))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		part([]byte(name))
		for _, v := range m.Header[name] {
			part([]byte(v))
		}
		part(nil)
	}
	part(m.Data)
	return h.Sum(nil)
}
