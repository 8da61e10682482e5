package booking

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
)

type (
	// An ID names one booking. Identifiers have types of their own, so that one is not passed for another. All but an actor's are
	// made by [NewID] or [DeriveID]; whose an actor's is, its credential says.
	ID string
	// A UserID names a user, the passenger.
	UserID string
	// A RiderID names a rider, who drives the bike.
	RiderID string
	// An EventID names one event.
	EventID string
	// A CommandID names one command. A retry of it has the same.
	CommandID string
)

// idLength is the number of characters of an identifier: 128 bits in base32.
const idLength = 26

// NewID returns a random identifier: 26 characters of lower-case base32, from crypto/rand.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program rather than return an error
	return encodeID(b[:])
}

// DeriveID returns the identifier that belongs to parts: always the same for the same parts in the same order, and another for any
// others. Each part is hashed with its length before it, so that ("ab", "c") and ("a", "bc") differ.
func DeriveID(parts ...string) string {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return encodeID(h.Sum(nil)[:16])
}

// ValidID reports whether s has the form of an identifier: 26 characters of a to z and 2 to 7.
func ValidID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// encodeID returns 16 bytes in base32, lower case and without padding.
func encodeID(b []byte) string {
	var s [idLength]byte
	base32.StdEncoding.WithPadding(base32.NoPadding).Encode(s[:], b)
	for i, c := range s {
		if 'A' <= c && c <= 'Z' {
			s[i] = c - 'A' + 'a'
		}
	}
	return string(s[:])
}

// Keyed returns the id of the command that an actor sends to a path under an idempotency key, which is the same each time, and the fingerprint of
// what it asks for, which is body in any encoding of the caller's.
func Keyed(actor, path, key string, body []byte) (id CommandID, request string) {
	return CommandID(DeriveID("command", actor, path, key)), DeriveID("request", path, string(body))
}
