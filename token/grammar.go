package token

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A parsedToken is the content of a token that obeys the grammar. Its signature and times are not
// verified. It is immutable once parse has returned it.
type parsedToken struct {
	claims        Claims
	iat, nbf, exp int64 // seconds since 1970; nbf is 0 when absent
	kind          kind
}

// A kind is a set of kinds of token.
type kind uint8

const (
	access  kind = 1 << iota // typ is that of a request's token
	service                  // typ is ServiceType
	event                    // typ is EventType
)

// expectedClaims are the values that the grammar compares a token with.
type expectedClaims struct {
	typ, issuer, audience string
	ledger                string // the audience of event tokens
}

// segments encodes and decodes the three parts of a token (RFC 7515 section 2), without padding and
// with one spelling of the last character. Go's decoder skips line breaks, which split refuses
// first.
var segments = base64.RawURLEncoding.Strict()

// kidLength is the length of a key id: an RFC 7638 thumbprint with SHA-256, in base64url.
const kidLength = 43

// parse reads a token by the grammar: all rules that need neither a key nor a clock.
func (e expectedClaims) parse(raw string) (*parsedToken, signedText, error) {
	c, err := split(raw)
	if err != nil {
		return nil, signedText{}, err
	}
	p := new(parsedToken)
	if err := e.header(c.header, p); err != nil {
		return nil, signedText{}, err
	}
	if err := e.payload(c.payload, p); err != nil {
		return nil, signedText{}, err
	}
	if len(c.signed.signature) == 0 {
		return nil, signedText{}, refuse(malformed, "the signature is missing")
	}
	return p, c.signed, nil
}

// A compact is a token in its decoded parts (RFC 7515 section 3.1).
type compact struct {
	header, payload []byte
	signed          signedText
}

// A signedText is what a signature signs, and the signature. It references the raw token: do not
// keep it.
type signedText struct {
	text      string // the encoded header and claims
	signature []byte
}

// split cuts a token at its two dots and decodes the parts.
func split(raw string) (compact, error) {
	if len(raw) > MaxSize {
		return compact{}, refuse(malformed, "it is longer than 4096 bytes")
	}
	if strings.Trim(raw, base64url+".") != "" {
		return compact{}, refuse(malformed, "it has other characters than base64url and dots")
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok {
		return compact{}, refuse(malformed, "it is not three parts")
	}
	var c compact // a fourth part fails as base64url
	for _, part := range [...]struct {
		text string
		into *[]byte
	}{{header, &c.header}, {payload, &c.payload}, {sig, &c.signed.signature}} {
		data, err := segments.DecodeString(part.text)
		if err != nil {
			return compact{}, refuse(malformed, "it is not strict base64url")
		}
		*part.into = data
	}
	c.signed.text = raw[:len(header)+1+len(payload)]
	return c, nil
}

// verify checks the signature.
func (s signedText) verify(key Key) error {
	if err := jwt.SigningMethodRS256.Verify(s.text, s.signature, key.Public); err != nil {
		return refuse(signature, "the signature is not that of its key")
	}
	return nil
}

// base64url is the URL-safe alphabet (RFC 4648 section 5).
const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// header reads the header: exactly alg, typ and kid. It refuses any other name, so crit, b64, zip,
// jku, jwk, x5u and x5c need no rules of their own (RFC 8725 sections 3.1, 3.10 and 3.11).
func (e expectedClaims) header(data []byte, p *parsedToken) error {
	var alg, typ string
	err := scan(data, func(s scanner, name string) (err error) {
		switch name {
		case "alg":
			alg, err = s.text()
		case "typ":
			typ, err = s.text()
		case "kid":
			if p.claims.KeyID, err = s.text(); err == nil && !validKeyID(p.claims.KeyID) {
				err = errKeyID
			}
		default:
			err = errName
		}
		return err
	})
	switch {
	case err != nil:
		return refuse(malformed, "in the header "+err.Error())
	case alg != "RS256":
		return refuse(algorithm, "alg is not RS256")
	case typ == EventType:
		p.kind = event
	case typ == ServiceType:
		p.kind = service
	case typ == e.typ:
		p.kind = access
	default:
		return refuse(wrongType, "typ is another kind of token")
	}
	if p.claims.KeyID == "" {
		return refuse(malformed, "in the header kid is missing")
	}
	return nil
}

// validKeyID reports whether kid has the form of a thumbprint.
func validKeyID(kid string) bool { return len(kid) == kidLength && strings.Trim(kid, base64url) == "" }

// The faults of a header or of claims, in addition to those of a JSON text.
var (
	errKeyID = detail("kid is not 43 characters of base64url")
	errName  = detail("there is a name other than alg, typ and kid")
	errFold  = detail("a name differs from a known one in its case only")
	errID    = detail("sub, jti or sid is not 26 characters of lower-case base32")
	errEmail = detail("email is too long or has control characters")
)

type detail string

func (d detail) Error() string { return string(d) }

// claimNames are the claims that the grammar knows.
var claimNames = [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "role", "email", "evt"}

// foldsTo reports whether a reader that ignores case, such as encoding/json, takes name for one of
// names: ROLE, or "iſs".
func foldsTo(name string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(name, n) })
}

// payload reads the claims. It ignores the value of an unknown claim, but checks its form.
func (e expectedClaims) payload(data []byte, p *parsedToken) error {
	var hasIAT, hasEXP, badRole bool
	c := &p.claims
	err := scan(data, func(s scanner, name string) (err error) {
		switch name {
		case "iss":
			c.Issuer, err = s.text()
		case "aud":
			c.Audience, err = s.text()
		case "sub":
			c.Subject, err = s.id()
		case "jti":
			c.ID, err = s.id()
		case "sid":
			c.Session, err = s.id()
		case "role":
			var text string
			if text, err = s.text(); err == nil {
				var known bool
				c.Role, known = ParseRole(text)
				badRole = !known
			}
		case "email":
			if c.Email, err = s.text(); err == nil && !validEmail(c.Email) {
				err = errEmail
			}
		case "evt":
			var text string
			text, err = s.text()
			c.Event = EventToken(text)
		case "iat":
			hasIAT = true
			p.iat, err = s.seconds()
		case "exp":
			hasEXP = true
			p.exp, err = s.seconds()
		case "nbf":
			if p.nbf, err = s.seconds(); err == nil {
				c.NotBefore = at(p.nbf)
			}
		default:
			if foldsTo(name, claimNames[:]...) {
				return errFold
			}
			err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return refuse(malformed, "in the claims "+err.Error())
	case badRole || c.Role == "":
		return refuse(role, "role is missing or none of ours")
	case p.kind != event && (c.Role == Service) != (p.kind == service):
		return refuse(role, "role is not one of this kind of token")
	case c.Subject == "" || c.ID == "" || !hasIAT || !hasEXP:
		return refuse(malformed, "sub, jti, iat or exp is missing")
	case c.Email == "" && p.kind == access:
		return refuse(malformed, "email is missing")
	case p.kind == event && (c.Email != "" || c.Event != ""):
		return refuse(malformed, "an event token has an email or an event token")
	case p.exp <= p.iat || p.exp-p.iat > int64(MaxLife/time.Second):
		return refuse(lifetime, "exp is not within 24 hours after iat")
	}
	c.IssuedAt, c.ExpiresAt = at(p.iat), at(p.exp)
	return nil
}

// at returns the time of a claim.
func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// id reads an identifier.
func (s scanner) id() (string, error) {
	text, err := s.text()
	if err == nil && !validID(text) {
		err = errID
	}
	return text, err
}
