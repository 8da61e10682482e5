package bus

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
)

// snapshotVersion is the version of how a snapshot is kept, and of the rules by which messages of the ledger are verified before a
// board sees them. It goes up when either changes; for what a board makes of events there is board.Version.
const snapshotVersion = 1

// A snapshot is a board as of a sequence of the ledger, cut in chunks in the bucket BOARDS, and this, which is written when they are all there. It
// is a cache of verdicts: it is used where reading the ledger from its beginning would make the very same board, and else it is as
// if it were not there (docs/adr/0014).
type snapshot struct {
	Version int `json:"v"`
	Board   int `json:"board"` // board.Version

	ID       string `json:"id"`       // names its chunks
	Chunks   int    `json:"chunks"`   // how many there are
	Size     int64  `json:"bytes"`    // of all of them
	First    uint64 `json:"first"`    // sequence of the first of them in the bucket
	Previous uint64 `json:"previous"` // the same of the snapshot before, which somebody may be reading; 0: there was none

	Ledger  time.Time `json:"ledger"`  // when the ledger was created that it is of
	Seq     uint64    `json:"seq"`     // of the last message that it knows
	Message []byte    `json:"message"` // that message's digest
	Latest  time.Time `json:"latest"`  // when the latest of all was stored

	Keys        []keyLife  `json:"keys"`
	Strangers   bool       `json:"strangers"` // whether a message was refused because none of Keys had signed it
	Revocations bucketMark `json:"revocations"`

	revision uint64    // of this in its bucket; 0: it is not there
	stored   time.Time // when it was written; the server's clock
}

// Why a snapshot was not used. They are metric labels, and each stands for one sentence in docs/operate-boards.md.
var (
	errNoSnapshot  = errors.New("none")        // there is none
	errUnreadable  = errors.New("unreadable")  // somebody else has written it, or it is damaged
	errOtherRules  = errors.New("version")     // an older program has made it, or a newer one
	errForeign     = errors.New("foreign")     // it is of another ledger
	errAllAged     = errors.New("aged")        // nothing is left in the ledger of what it knows
	errOtherPast   = errors.New("past")        // keys or revocations have changed as of a time that it knows
	errTorn        = errors.New("torn")        // chunks are missing or damaged
	errUnreachable = errors.New("unavailable") // the bus did not answer
)

// notUsed are all of them, errUnreachable last: whatever it is, it is that.
func notUsed() []error {
	return []error{errNoSnapshot, errUnreadable, errOtherRules, errForeign, errAllAged, errOtherPast, errTorn, errUnreachable}
}

// A seal proves that somebody who has the key has written something. Who can write the bucket, and has not the key, can destroy snapshots and
// forge none: what they leave out would else be what re-verification is there for.
type seal struct{ key []byte }

// minSnapshotKey is how long a key must be, in bytes.
const minSnapshotKey = 32

func newSeal(key []byte) (seal, error) {
	if len(key) < minSnapshotKey {
		return seal{}, fmt.Errorf("snapshots: a key of %d bytes at least is required, not of %d", minSnapshotKey, len(key))
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "pillion board snapshots", sha256.Size)
	if err != nil {
		return seal{}, fmt.Errorf("snapshots: %w", err)
	}
	return seal{derived}, nil
}

// What a seal is on, so that nothing can stand in for anything else.
const (
	sealedHead  = 'h'
	sealedChunk = 'c'
)

func (s seal) hash(kind byte, id string, n int) hash.Hash {
	h := hmac.New(sha256.New, s.key)
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(n))
	h.Write([]byte{kind, byte(len(id))})
	h.Write([]byte(id))
	h.Write(number[:])
	return h
}

// put returns data with its seal before it.
func (s seal) put(kind byte, id string, n int, data []byte) []byte {
	h := s.hash(kind, id, n)
	h.Write(data)
	return append(h.Sum(make([]byte, 0, sha256.Size+len(data))), data...)
}

// open returns what is sealed, and whether the seal is right.
func (s seal) open(kind byte, id string, n int, sealed []byte) ([]byte, bool) {
	if len(sealed) < sha256.Size {
		return nil, false
	}
	data := sealed[sha256.Size:]
	h := s.hash(kind, id, n)
	h.Write(data)
	return data, hmac.Equal(h.Sum(nil), sealed[:sha256.Size])
}

// write returns the snapshot's record, sealed.
func (s seal) write(x *snapshot) ([]byte, error) {
	data, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	return s.put(sealedHead, "", 0, data), nil
}

// read reads a record. With errUnreadable and errOtherRules comes a snapshot that has only its place in the bucket, and in the latter case its
// versions.
func (s seal) read(m stored) (snapshot, error) {
	x := snapshot{revision: m.seq, stored: m.at}
	data, ok := s.open(sealedHead, "", 0, m.data)
	if !ok || m.header.Get(headerOperation) != "" {
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
	if x.Version != snapshotVersion || x.Board != board.Version {
		return x, errOtherRules
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return snapshot{revision: m.seq, stored: m.at}, errUnreadable
	}
	return x, nil
}

// newer reports whether a newer program has made it.
func (x *snapshot) newer() bool {
	return x.Version > snapshotVersion || x.Version == snapshotVersion && x.Board > board.Version
}
