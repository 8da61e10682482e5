package booking

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
)

type (
	// An ID identifies a booking. Each sort of identifier has its own type, so that the compiler
	// keeps them apart. [NewID] and [DeriveID] make them; an actor's comes from its credential.
	ID string
	// A UserID identifies a user, the passenger.
	UserID string
	// A RiderID identifies a rider, the driver.
	RiderID string
	// An EventID identifies an event.
	EventID string
	// A CommandID identifies a command and its retries.
	CommandID string
)

// idLength is the number of characters of an identifier: 128 bits in base32.
const idLength = 26

// NewID returns a random identifier: 26 characters of lower-case base32, from crypto/rand.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program rather than return an error
	var id [idLength]byte
	identifiers.Encode(id[:], b[:])
	return string(id[:])
}

// DeriveID returns an identifier that depends on the parts and their order only. It hashes each
// part with its length, so ("ab", "c") and ("a", "bc") yield different identifiers.
func DeriveID(parts ...string) string {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return identifiers.EncodeToString(h.Sum(nil)[:16])
}

// ValidID reports whether s has the form of an identifier: 26 characters of a to z and 2 to 7.
func ValidID(s string) bool { return len(s) == idLength && strings.Trim(s, idAlphabet) == "" }

// idAlphabet is lower-case base32 (RFC 4648 section 6).
const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// identifiers encodes 16 bytes as an identifier.
var identifiers = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// Keyed returns the id of the command that an actor sends to a path under an idempotency key, and
// the fingerprint of the request. body is the request in any fixed encoding of the caller's choice.
func Keyed(actor, path, key string, body []byte) (id CommandID, request string) {
	return CommandID(DeriveID("command", actor, path, key)), DeriveID("request", path, string(body))
}
