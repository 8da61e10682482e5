package token

import (
	"bytes"
	"encoding/base64"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A statement is what a token says that obeys the grammar; whether it is true is another matter. It is not changed once parse
// has returned it.
type statement struct {
	claims        Claims
	iat, nbf, exp int64 // seconds since 1970; nbf is 0 when absent
	service       bool  // its typ is ServiceType
}

// A dialect is what a grammar leaves open.
type dialect struct{ typ, issuer, audience string }

// segments encodes and decodes the three parts of a token: RFC 7515 section 2, without padding, without a second spelling of
// the last character. Go's decoder also skips line breaks; split has refused those before.
var segments = base64.RawURLEncoding.Strict()

// kidLength is the length of a key id, an RFC 7638 thumbprint with SHA-256 in base64url.
const kidLength = 43

// parse reads a token by the grammar: every rule about it that needs neither a key nor a clock.
func (d dialect) parse(raw string) (*statement, proof, error) {
	c, err := split(raw)
	if err != nil {
		return nil, proof{}, err
	}
	s := new(statement)
	if err := d.header(c.header, s); err != nil {
		return nil, proof{}, err
	}
	if err := d.payload(c.payload, s); err != nil {
		return nil, proof{}, err
	}
	if len(c.proof.signature) == 0 {
		return nil, proof{}, refuse(malformed, "the signature is missing")
	}
	return s, c.proof, nil
}

// A compact is a token in its three decoded parts (RFC 7515 section 3.1).
type compact struct {
	header, payload []byte
	proof           proof
}

// A proof is what shows that a statement is true. It holds on to the token itself, so it is not kept.
type proof struct {
	signed    string // the header and the claims as they stand in the token
	signature []byte
}

// split cuts a token at its two dots and decodes the parts.
func split(raw string) (compact, error) {
	if len(raw) > MaxSize {
		return compact{}, refuse(malformed, "it is longer than 4096 bytes")
	}
	for i := range len(raw) {
		if !base64url(raw[i]) && raw[i] != '.' {
			return compact{}, refuse(malformed, "it has other characters than base64url and dots")
		}
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok {
		return compact{}, refuse(malformed, "it is not three parts")
	}
	var c compact // a fourth part would be a dot in the signature, which is no base64url
	for _, part := range [...]struct {
		text string
		into *[]byte
	}{{header, &c.header}, {payload, &c.payload}, {signature, &c.proof.signature}} {
		data, err := segments.DecodeString(part.text)
		if err != nil {
			return compact{}, refuse(malformed, "it is not strict base64url")
		}
		*part.into = data
	}
	c.proof.signed = raw[:len(header)+1+len(payload)]
	return c, nil
}

// verify checks the signature.
func (p proof) verify(key Key) error {
	if err := jwt.SigningMethodRS256.Verify(p.signed, p.signature, key.Public); err != nil {
		return refuse(signature, "the signature is not that of its key")
	}
	return nil
}

// base64url reports whether c is of the URL-safe alphabet, RFC 4648 section 5.
func base64url(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// header reads the header: exactly alg, typ and kid. Any other name is refused, so crit, b64, zip, jku, jwk, x5u and x5c need
// no rules of their own (RFC 8725 sections 3.1, 3.10 and 3.11).
func (d dialect) header(data []byte, s *statement) error {
	var alg, typ []byte
	sc := scanner{data: data}
	err := sc.document(func(name []byte) (err error) {
		var kid []byte
		switch string(name) {
		case "alg":
			alg, err = sc.text()
		case "typ":
			typ, err = sc.text()
		case "kid":
			if kid, err = sc.text(); err == nil && !validKeyID(kid) {
				err = errKeyID
			}
			s.claims.KeyID = string(kid)
		default:
			err = errName
		}
		return err
	})
	switch {
	case err != nil:
		return refuse(malformed, "in the header "+err.Error())
	case string(alg) != "RS256":
		return refuse(algorithm, "alg is not RS256")
	case string(typ) != d.typ && string(typ) != ServiceType:
		return refuse(wrongType, "typ is another kind of token")
	case s.claims.KeyID == "":
		return refuse(malformed, "in the header kid is missing")
	}
	s.service = string(typ) == ServiceType
	return nil
}

// validKeyID reports whether kid has the form of a thumbprint.
func validKeyID[T string | []byte](kid T) bool {
	if len(kid) != kidLength {
		return false
	}
	for i := range len(kid) {
		if !base64url(kid[i]) {
			return false
		}
	}
	return true
}

// What is wrong with a header or with claims, besides what is wrong with a JSON text.
var (
	errKeyID = detail("kid is not 43 characters of base64url")
	errName  = detail("there is a name other than alg, typ and kid")
	errFold  = detail("a name differs from a known one in its case only")
	errID    = detail("sub, jti or sid is not 26 characters of lower-case base32")
	errEmail = detail("email is too long or has control characters")
)

type detail string

func (d detail) Error() string { return string(d) }

// claimNames are the claims that mean something here.
var claimNames = [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "role", "email"}

// foldsTo reports whether name is one of names to somebody who ignores case, as encoding/json does: ROLE, or "iſs".
func foldsTo(name []byte, names ...string) bool {
	for _, n := range names {
		if bytes.EqualFold(name, []byte(n)) {
			return true
		}
	}
	return false
}

// payload reads the claims. A claim that means nothing here is ignored, but not its form.
func (d dialect) payload(data []byte, s *statement) error {
	var hasIAT, hasEXP, badRole bool
	c := &s.claims
	sc := scanner{data: data}
	err := sc.document(func(name []byte) (err error) {
		switch string(name) {
		case "iss":
			c.Issuer, err = sc.known(d.issuer)
		case "aud":
			c.Audience, err = sc.known(d.audience)
		case "sub":
			c.Subject, err = sc.id()
		case "jti":
			c.ID, err = sc.id()
		case "sid":
			c.Session, err = sc.id()
		case "role":
			var text []byte
			if text, err = sc.text(); err == nil {
				var known bool
				c.Role, known = ParseRole(string(text))
				badRole = !known
			}
		case "email":
			var text []byte
			if text, err = sc.text(); err == nil && !validEmail(text) {
				err = errEmail
			}
			c.Email = string(text)
		case "iat":
			hasIAT = true
			s.iat, err = sc.seconds()
		case "exp":
			hasEXP = true
			s.exp, err = sc.seconds()
		case "nbf":
			if s.nbf, err = sc.seconds(); err == nil {
				c.NotBefore = at(s.nbf)
			}
		default:
			if foldsTo(name, claimNames[:]...) {
				return errFold
			}
			err = sc.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return refuse(malformed, "in the claims "+err.Error())
	case badRole || c.Role == "":
		return refuse(role, "role is missing or none of ours")
	case (c.Role == Service) != s.service:
		return refuse(role, "role is not one of this kind of token")
	case c.Subject == "" || c.ID == "" || !hasIAT || !hasEXP:
		return refuse(malformed, "sub, jti, iat or exp is missing")
	case c.Email == "" && c.Role != Service:
		return refuse(malformed, "email is missing")
	case s.exp <= s.iat || s.exp-s.iat > int64(MaxLife/time.Second):
		return refuse(lifetime, "exp is not within 24 hours after iat")
	}
	c.IssuedAt, c.ExpiresAt = at(s.iat), at(s.exp)
	return nil
}

// at returns the time of a claim.
func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// known reads a string that is probably the one expected, of which then no copy is made.
func (s *scanner) known(expected string) (string, error) {
	text, err := s.text()
	if err == nil && string(text) == expected {
		return expected, nil
	}
	return string(text), err
}

// id reads an identifier.
func (s *scanner) id() (string, error) {
	text, err := s.text()
	if err == nil && !validID(text) {
		err = errID
	}
	return string(text), err
}
