package bus

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// One event is one message: CloudEvents 1.0 in NATS binary mode (the context attributes are headers, the data is the body).
// docs/events.md is the reference.
const (
	HeaderSpecVersion = "ce-specversion"
	HeaderID          = "ce-id"
	HeaderType        = "ce-type"
	HeaderSource      = "ce-source"
	HeaderSubject     = "ce-subject"
	HeaderTime        = "ce-time"
	HeaderContentType = "Content-Type"
	HeaderToken       = "Authorization"

	BookingTypePrefix = "pillion.booking."
	Bearer            = "Bearer "
	SchemaVersion     = 1
)

// stored is one message of the ledger with what the server, and not its publisher, says about it.
type Message struct {
	Subject  string
	Header   nats.Header
	Data     []byte
	Seq      uint64
	StoredAt time.Time
}

// digest returns a hash of a message and of what the server says of it.
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
