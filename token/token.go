// Package token issues and verifies Pillion's signed tokens: RS256 JSON Web Tokens that assert an
// account, its role and a lifetime.
//
// To verify, start with [NewVerifier], and call [Verifier.Verify] for a request or
// [Verifier.VerifyAt] for a stored event. To sign, make an [Issuer]. Keys travel as a [KeySet].
//
// A strict grammar reads a token before its signature is verified. golang-jwt computes the
// signatures and does nothing else, because it accepts too much: duplicate names, ROLE for role, an
// exp of 1e300, line breaks. So this package reads the tokens that it writes, and not those of
// other issuers.
//
// A token is a credential. The package never logs one or quotes it in an error. Log its ID (jti).
package token

import (
	"strings"
	"time"
)

const (
	// ClockLeeway is how far iat and nbf of a request's token may be ahead of the verifier's clock.
	ClockLeeway = 5 * time.Second
	// EventLeeway is the leeway of VerifyAt for all times. It covers the longest append to the
	// ledger, so that a token that was valid in the request is still valid in the event.
	EventLeeway = 15 * time.Second
	// ChangeDelay is how long before its storing a change, such as a retirement or a revocation,
	// may take effect, unless it changes the past on purpose. It covers the time to store a change,
	// and the greatest difference of clocks. Keys and revocations that are EventLeeway -
	// ChangeDelay old are new enough to verify events that have just been stored.
	ChangeDelay = 10 * time.Second
	// MaxLife is the longest time from iat to exp.
	MaxLife = 24 * time.Hour
	// MaxSize is the greatest size of a token, in bytes.
	MaxSize = 4096
)

// The defaults of Config and IssuerConfig.
const (
	defaultName    = "pillion" // iss and aud
	defaultType    = "JWT"     // typ
	ledgerAudience = "-ledger" // follows aud in event tokens
)

// The other kinds of token have a typ of their own, so that none passes for another (RFC 8725
// section 3.11).
const (
	// ServiceType is the typ of the tokens of services, which act with role Service. No access
	// token has that role, and these have no other.
	ServiceType = "service+jwt"
	// EventType is the typ of event tokens: see [EventToken].
	EventType = "event+jwt"
)

// An EventToken is the token that an event carries. It proves who caused the event, and is refused
// wherever a token opens something: in requests and by NATS. It travels in the claim evt of the
// access token, or of the service's token, whose claims it repeats, except for aud and email. So
// whoever reads stored events gets nothing to log in with.
//
// It is hidden when it is printed or logged, also as a part of Claims.
type EventToken string

// String returns a text without the token. Convert to string for the token itself.
func (t EventToken) String() string {
	if t == "" {
		return ""
	}
	return "(event token)"
}

// GoString is String, for %#v.
func (t EventToken) GoString() string { return t.String() }

// MarshalText is String, for encoding/json.
func (t EventToken) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A Role is the role of an account. Its value is the name in tokens.
type Role string

// The roles. The name of Rider in tokens is the original API's spelling.
const (
	User    Role = "user"
	Rider   Role = "raider"
	Service Role = "service" // one of Pillion's processes; never from a login
)

// ParseRole returns the role with the exact name s in tokens, and whether there is one.
func ParseRole(s string) (Role, bool) {
	switch r := Role(s); r {
	case User, Rider, Service:
		return r, true
	}
	return "", false
}

// Claims are the claims of a verified token. They are zero on every error, so that nobody uses
// unverified ones. Two Claims of the same token are equal with ==.
type Claims struct {
	ID      string // jti: identifies the token; may be logged
	Subject string // sub: the account
	Email   string // email; empty for a service
	Session string // sid: the login; may be empty
	Role    Role   // role

	Issuer   string // iss
	Audience string // aud

	IssuedAt  time.Time // iat, in UTC, whole seconds
	NotBefore time.Time // nbf; zero when absent
	ExpiresAt time.Time // exp

	KeyID string // kid of the header: the key that signed it

	Event EventToken // evt; empty in event tokens, and in tokens of older builds
}

// Proof returns the event token that came with a verified access token. It returns ErrExpired where
// none did, because an older build has issued the token: its holder logs in again or refreshes.
func (c Claims) Proof() (EventToken, error) {
	if c.Event == "" {
		return "", refuse(expired, "it has no event token")
	}
	return c.Event, nil
}

// idLength is the length of sub, jti and sid: 26 characters of base32 hold 128 bits.
const idLength = 26

// validID reports whether s is 26 characters of lower-case base32 (RFC 4648 section 6), as every
// identifier in Pillion is.
func validID(s string) bool { return len(s) == idLength && strings.Trim(s, idAlphabet) == "" }

// maxEmail is the longest address that mail can be sent to, in bytes (RFC 3696 erratum 1690).
const maxEmail = 254

// validEmail reports whether s is safe in an answer and a log line. Registration checks that it is
// an address.
func validEmail(s string) bool {
	return len(s) <= maxEmail && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
