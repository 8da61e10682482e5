// Package snapshot stores snapshots of a board in a bucket, and decides which one a starting reader
// of the ledger may use.
//
// Begin with [NewStore]. A snapshot is a cache of verdicts: it is used where reading the ledger
// from its beginning would make the very same board, and otherwise it is ignored (docs/adr/0014).
// It is authenticated with a key that only our services have, so that a writer without the key can
// destroy snapshots but forge none.
package snapshot

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
)

// Version is the version of the format, and of the rules by which messages are verified before they
// reach a board. It goes up when either changes. What a board makes of events has
// board.Version.
const Version = 1

// A Snapshot describes a board as of a sequence of the ledger. The board itself is stored in
// chunks, before this record.
type Snapshot struct {
	Version int `json:"v"`
	Board   int `json:"board"` // board.Version

	ID     string `json:"id"`     // part of the keys of its chunks
	Chunks int    `json:"chunks"` // how many
	Size   int64  `json:"bytes"`  // of all chunks
	First  uint64 `json:"first"`  // sequence of the first chunk in the bucket
	// First of the snapshot before, which may still be read; 0: none
	Previous uint64 `json:"previous"`

	Ledger  time.Time `json:"ledger"`  // when its ledger was created
	Seq     uint64    `json:"seq"`     // of the last message in it
	Message []byte    `json:"message"` // the digest of that message
	Latest  time.Time `json:"latest"`  // when the latest message was stored

	Keys []trust.KeyLife `json:"keys"`
	// whether a message was rejected for naming another key
	UnknownKey bool `json:"strangers"`
	// as trust.KeyWatch.OldRuleUntil returns it
	OldRuleUntil *uint64              `json:"old_rule_until,omitempty"`
	Revocations  trust.BucketPosition `json:"revocations"`

	revision uint64    // of the record in the bucket; 0: none
	StoredAt time.Time // when the record was written; the server's clock
}

// Reasons not to use a snapshot. They are metric labels, explained in docs/operate-snapshots.md.
var (
	ErrNone       = errors.New("none")       // there is no snapshot
	errUnreadable = errors.New("unreadable") // its MAC is wrong, or it is damaged
	errOtherRules = errors.New("version")    // an older or a newer program has made it
	errForeign    = errors.New("foreign")    // it belongs to another ledger
	errAllAged    = errors.New("aged")       // all of its messages have aged out of the ledger
	// keys or revocations have changed as of a time before its end
	ErrOtherPast   = errors.New("past")
	errIncomplete  = errors.New("torn")        // chunks are missing or damaged
	ErrUnreachable = errors.New("unavailable") // NATS did not answer
)

// notUsed returns all reasons. The last one, ErrUnreachable, covers every other error.
func notUsed() []error {
	return []error{ErrNone, errUnreadable, errOtherRules, errForeign, errAllAged, ErrOtherPast, errIncomplete,
		ErrUnreachable}
}

// A mac authenticates what is stored.
type mac struct{ key []byte }

// minKey is how long a key must be, in bytes.
const minKey = 32

func newMAC(key []byte) (mac, error) {
	if len(key) < minKey {
		return mac{}, fmt.Errorf("snapshots: a key of %d bytes at least is required, not of %d", minKey, len(key))
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "pillion board snapshots", sha256.Size)
	if err != nil {
		return mac{}, fmt.Errorf("snapshots: %w", err)
	}
	return mac{derived}, nil
}

// Kinds of authenticated data, so that none can take the place of another.
const (
	headKind  = 'h'
	chunkKind = 'c'
)

func (s mac) hash(kind byte, id string, n int) hash.Hash {
	h := hmac.New(sha256.New, s.key)
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(n))
	h.Write([]byte{kind, byte(len(id))})
	h.Write([]byte(id))
	h.Write(number[:])
	return h
}

// put returns data with its MAC before it.
func (s mac) put(kind byte, id string, n int, data []byte) []byte {
	h := s.hash(kind, id, n)
	h.Write(data)
	return append(h.Sum(make([]byte, 0, sha256.Size+len(data))), data...)
}

// open returns the data behind a MAC, and whether the MAC is right.
func (s mac) open(kind byte, id string, n int, sealed []byte) ([]byte, bool) {
	if len(sealed) < sha256.Size {
		return nil, false
	}
	data := sealed[sha256.Size:]
	h := s.hash(kind, id, n)
	h.Write(data)
	return data, hmac.Equal(h.Sum(nil), sealed[:sha256.Size])
}

// write returns the snapshot's record with its MAC.
func (s mac) write(x *Snapshot) ([]byte, error) {
	data, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	return s.put(headKind, "", 0, data), nil
}

// read reads a record. With errUnreadable comes a snapshot that has only its place in the bucket,
// with errOtherRules one that has its versions too.
func (s mac) read(m bus.Message) (Snapshot, error) {
	x := Snapshot{revision: m.Seq, StoredAt: m.StoredAt}
	data, ok := s.open(headKind, "", 0, m.Data)
	if !ok || m.Header.Get(bus.HeaderOperation) != "" {
		return x, errUnreadable
	}
	var said struct {
		Version int `json:"v"`
		Board   int `json:"board"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return x, errUnreadable
	}
	x.Version, x.Board = said.Version, said.Board
	if x.Version != Version || x.Board != board.Version {
		return x, errOtherRules
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return Snapshot{revision: m.Seq, StoredAt: m.StoredAt}, errUnreadable
	}
	return x, nil
}

// newer reports whether a newer program has made it.
func (x *Snapshot) newer() bool {
	return x.Version > Version || x.Version == Version && x.Board > board.Version
}

// Reason names why a snapshot was not used; nil: it was used.
func Reason(err error) string {
	if err == nil {
		return "snapshot"
	}
	for _, reason := range notUsed() {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	return ErrUnreachable.Error()
}
