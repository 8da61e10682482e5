// Package token issues and verifies Pillion's signed tokens: RS256 JSON Web Tokens that say who somebody is, in which role and
// for how long.
//
// Start with [NewVerifier] and [Verifier.Verify] for a request, or [Verifier.VerifyAt] for an event that carries a token. The
// one house that signs makes an [Issuer]. Keys travel as a [KeySet].
//
// golang-jwt computes the signatures, and nothing else of it is used: it accepts much that it should not (a name twice, ROLE
// for role, an exp of 1e300, line breaks). A strict grammar comes first, and what that refuses is never verified. So this
// package reads the tokens that this package writes, and makes no attempt to read those of anybody else.
//
// A token is a bearer credential. Nothing here logs one or puts one into an error; log its ID (jti) instead.
package token

import "time"

const (
	// ClockLeeway is how far ahead of the verifier's clock the times of a token may be (iat and nbf) when a request brings it.
	ClockLeeway = 5 * time.Second
	// EventLeeway is the leeway of VerifyAt in every direction: as long as an append to the ledger may take, so that a token
	// which a request was let in with does not fail once its event is stored.
	EventLeeway = 15 * time.Second
	// ChangeDelay is how much earlier than its storing the time of a change may be (of a retirement, say, or of a revocation) that does
	// not change the past on purpose: as long as storing it may take, by a clock that differs as much as clocks may. What EventLeeway is
	// longer is how old the last word of whoever stores changes may be before events that have just been stored have to wait for a newer one.
	ChangeDelay = 10 * time.Second
	// MaxLife is the longest time from iat to exp.
	MaxLife = 24 * time.Hour
	// MaxSize is the greatest size of a token, in bytes.
	MaxSize = 4096
)

// Pillion's own names, where a Config or an IssuerConfig gives no others.
const (
	defaultName = "pillion" // iss and aud
	defaultType = "JWT"     // typ
)

// ServiceType is the typ of the tokens of our own processes, who act with role Service. No request gets in with one; they stand in events.
// Other tokens never have that role, and these have no other: RFC 8725 section 3.11.
const ServiceType = "service+jwt"

// A Role is what somebody acts as. Its value is the name in tokens.
type Role string

// The roles. A rider drives the bike; its wire name is the original API's spelling.
const (
	User    Role = "user"
	Rider   Role = "raider"
	Service Role = "service" // one of our own processes; never by login
)

// ParseRole returns the role that is named exactly s on the wire, and whether there is one.
func ParseRole(s string) (Role, bool) {
	switch r := Role(s); r {
	case User, Rider, Service:
		return r, true
	}
	return "", false
}

// Claims are what a verified token says. On every error they are zero: nothing a token says is worth reading before it is
// verified. Two Claims of one token are equal with ==.
type Claims struct {
	ID      string // jti: the token's own identifier, the one that may be logged
	Subject string // sub: the account
	Email   string // email; empty for a service that has none
	Session string // sid: the login it belongs to; empty where there is none
	Role    Role   // role

	Issuer   string // iss
	Audience string // aud

	IssuedAt  time.Time // iat, in UTC, whole seconds
	NotBefore time.Time // nbf; zero when absent
	ExpiresAt time.Time // exp

	KeyID string // kid of the header: the key that signed it
}

// idLength is the length of sub, jti and sid: 26 characters of base32 hold 128 bits.
const idLength = 26

// validID reports whether s is 26 characters of lower-case base32 (RFC 4648 section 6), as every identifier in Pillion is.
func validID(s string) bool {
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

// maxEmail is the longest address that mail can be sent to, in bytes (RFC 3696 erratum 1690).
const maxEmail = 254

// validEmail reports whether s, a claim, can stand in an answer or a log line: not too long and without control characters.
// Whether it is anybody's address was decided at registration.
func validEmail(s string) bool {
	if len(s) > maxEmail {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f {
			return false
		}
	}
	return true
}
