package token

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// A Grant is what a token asserts.
type Grant struct {
	Subject string // 26 characters of lower-case base32
	Email   string // at most 254 bytes; required except for a Service
	Session string // like Subject, or empty
	Role    Role
}

// IssuerConfig is what an Issuer needs. Key and Life are required.
type IssuerConfig struct {
	Key      *rsa.PrivateKey  // 2048 to 4096 bits, exponent 65537
	Issuer   string           // iss; default "pillion"
	Audience string           // aud; default "pillion"
	Type     string           // typ of the header; default "JWT"
	Life     time.Duration    // from iat to exp, in whole seconds: 1 second to MaxLife
	Now      func() time.Time // default time.Now
	NewID    func() string    // makes a jti; default 128 random bits
}

// An Issuer signs tokens with one key. It is safe for concurrent use.
type Issuer struct {
	private  *rsa.PrivateKey
	key      Key
	expected expectedClaims
	life     int64
	now      func() time.Time
	newID    func() string
	header   string // the encoded header of all its tokens
	event    string // that of their event tokens
}

// NewIssuer returns an Issuer, or the faults of the configuration, joined. Errors: ErrKey,
// ErrSettings.
func NewIssuer(c IssuerConfig) (*Issuer, error) {
	var faults []error
	if err := checkPrivate(c.Key); err != nil {
		faults = append(faults, ErrKey.Because(err))
	}
	if c.Life < time.Second || c.Life > MaxLife {
		faults = append(faults, ErrSettings.Because(fmt.Errorf("a life of %s is not within 1s to %s", c.Life, MaxLife)))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = newID
	}
	i := &Issuer{
		private:  c.Key,
		key:      Key{ID: Thumbprint(&c.Key.PublicKey), Public: &c.Key.PublicKey},
		expected: expectedOf(c.Type, c.Issuer, c.Audience),
		life:     seconds(c.Life),
		now:      c.Now,
		newID:    c.NewID,
	}
	var errs [2]error
	i.header, errs[0] = encodeHeader(i.expected.typ, i.key.ID)
	i.event, errs[1] = encodeHeader(EventType, i.key.ID)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, ErrSettings.Because(err)
	}
	return i, nil
}

func encodeHeader(typ, kid string) (string, error) {
	return encode(struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
		Kid string `json:"kid"`
	}{"RS256", typ, kid})
}

// expectedOf returns expectedClaims, with defaults for empty values.
func expectedOf(typ, issuer, audience string) expectedClaims {
	d := expectedClaims{typ: defaultType, issuer: defaultName, audience: defaultName}
	if typ != "" {
		d.typ = typ
	}
	if issuer != "" {
		d.issuer = issuer
	}
	if audience != "" {
		d.audience = audience
	}
	d.ledger = d.audience + ledgerAudience
	return d
}

// checkPrivate returns why a key may not sign, or nil.
func checkPrivate(key *rsa.PrivateKey) error {
	if key == nil {
		return errors.New("it is missing")
	}
	if err := checkPublic(&key.PublicKey); err != nil {
		return err
	}
	return key.Validate()
}

// The claims of a token, as its issuer writes them.
type issuedClaims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	Role      Role   `json:"role"`
	Email     string `json:"email,omitempty"`
	Session   string `json:"sid,omitempty"`
	ID        string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	Event     string `json:"evt,omitempty"`
}

// Issue signs a token for g that is valid from now for the issuer's Life, and the event token in
// it. It returns the token and the claims that a verifier will return. Errors: ErrGrant.
func (i *Issuer) Issue(g Grant) (signed string, c Claims, err error) { return i.IssueAt(g, i.now()) }

// IssueAt is Issue as of now, for a caller that has chosen the key by that time.
func (i *Issuer) IssueAt(g Grant, now time.Time) (signed string, c Claims, err error) {
	if !utf8.ValidString(g.Email) {
		return "", Claims{}, ErrGrant.Because(errors.New("email is not valid UTF-8"))
	}
	iat := now.Unix()
	claims := issuedClaims{
		Issuer: i.expected.issuer, Audience: i.expected.ledger, Subject: g.Subject, Role: g.Role, Session: g.Session,
		ID: i.newID(), IssuedAt: iat, ExpiresAt: iat + i.life,
	}
	if claims.Event, _, err = i.sign(i.event, claims); err != nil {
		return "", Claims{}, err
	}
	claims.Audience, claims.Email = i.expected.audience, g.Email
	signed, p, err := i.sign(i.header, claims)
	if err != nil {
		return "", Claims{}, err
	}
	return signed, p.claims, nil
}

// sign returns a signed token, and what the grammar reads in it. Errors: ErrGrant.
func (i *Issuer) sign(header string, c issuedClaims) (string, *parsedToken, error) {
	payload, err := encode(c)
	if err != nil {
		return "", nil, ErrGrant.Because(err)
	}
	text := header + "." + payload
	// The verifier's grammar checks the grant, with a placeholder that is as long as the signature.
	p, _, err := i.expected.parse(text + "." + strings.Repeat("A", segments.EncodedLen(i.private.Size())))
	if err != nil {
		var r *refusal
		errors.As(err, &r)
		return "", nil, ErrGrant.Because(r)
	}
	signature, err := jwt.SigningMethodRS256.Sign(text, i.private)
	if err != nil {
		return "", nil, fmt.Errorf("token: sign: %w", err)
	}
	return text + "." + segments.EncodeToString(signature), p, nil
}

// Key returns the public half of the signing key, for a KeySet.
func (i *Issuer) Key() Key { return i.key }

// encode returns v as JSON in base64url.
func encode(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return segments.EncodeToString(data), nil
}

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// identifiers encodes 128 bits as 26 characters.
var identifiers = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// newID returns 128 random bits. Like crypto/rand, it ends the process if the system has no
// randomness.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return identifiers.EncodeToString(b[:])
}
