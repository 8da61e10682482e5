// Package tokentest gives tests an authority that signs tokens, good ones and every kind of forged
// one. Start with [New]. The keys are made once a process. Only tests may import it.
package tokentest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/example/pillion/token"
)

// pair makes the two keys of a process: that of the authority and one that nobody trusts. Making an
// RSA key takes up to a second.
var pair = sync.OnceValues(func() ([2]*rsa.PrivateKey, error) {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return keys, err
		}
		keys[i] = key
	}
	return keys, nil
})

// An Authority signs tokens for tests. It is safe for concurrent use as long as Now is left alone.
type Authority struct {
	Private *rsa.PrivateKey  // what it signs with
	Other   *rsa.PrivateKey  // a key that is in no key set
	Now     func() time.Time // its clock, and that of its verifiers and issuers: time.Now

	t   testing.TB
	set *token.KeySet
}

// New returns an Authority. All of a process have the same keys.
func New(t testing.TB) *Authority {
	t.Helper()
	keys, err := pair()
	if err != nil {
		t.Fatalf("tokentest: make keys: %v", err)
	}
	a := &Authority{Private: keys[0], Other: keys[1], Now: time.Now, t: t}
	set, err := token.NewKeySet(KeyOf(&a.Private.PublicKey))
	if err != nil {
		t.Fatalf("tokentest: make the key set: %v", err)
	}
	a.set = set
	return a
}

// KeyOf returns a public key as it stands in a set, not retired.
func KeyOf(pub *rsa.PublicKey) token.Key {
	return token.Key{ID: token.Thumbprint(pub), Public: pub}
}

// KeySet returns the set that has the authority's key alone.
func (a *Authority) KeySet() *token.KeySet { return a.set }

// Keys returns that set as a source that never changes.
func (a *Authority) Keys() token.Keys { return token.StaticKeys(a.set) }

// Verifier returns a verifier that trusts the authority.
func (a *Authority) Verifier() *token.Verifier {
	a.t.Helper()
	v, err := token.NewVerifier(token.Config{Keys: a.Keys(), Now: a.Now})
	if err != nil {
		a.t.Fatalf("tokentest: make a verifier: %v", err)
	}
	return v
}

// Issuer returns an issuer that signs with the authority's key.
func (a *Authority) Issuer(life time.Duration) *token.Issuer {
	a.t.Helper()
	i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: life, Now: a.Now})
	if err != nil {
		a.t.Fatalf("tokentest: make an issuer: %v", err)
	}
	return i
}

// Token returns a good token that lives for 15 minutes from now: for a service, one of
// token.ServiceType without email.
func (a *Authority) Token(role token.Role, sub, email string) string {
	a.t.Helper()
	typ := ""
	if role == token.Service {
		typ, email = token.ServiceType, ""
	}
	i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: 15 * time.Minute, Type: typ, Now: a.Now})
	if err != nil {
		a.t.Fatalf("tokentest: make an issuer: %v", err)
	}
	signed, _, err := i.Issue(token.Grant{Subject: sub, Email: email, Role: role})
	if err != nil {
		a.t.Fatalf("tokentest: issue a token: %v", err)
	}
	return signed
}

// Pair returns a good token that lives for 15 minutes from now, and the event token in it.
func (a *Authority) Pair(role token.Role, sub string) (raw, event string) {
	a.t.Helper()
	raw = a.Token(role, sub, "somebody@example.com")
	return raw, EventToken(a.t, raw)
}

// Proof returns a good event token that lives for 15 minutes from now.
func (a *Authority) Proof(role token.Role, sub string) string {
	a.t.Helper()
	_, event := a.Pair(role, sub)
	return event
}

// EventToken returns the event token in an access token, or in that of a service.
func EventToken(t testing.TB, raw string) string {
	t.Helper()
	var claims struct {
		Event string `json:"evt"`
	}
	part := strings.Split(raw, ".")
	if len(part) != 3 {
		t.Fatalf("tokentest: a token of %d parts", len(part))
	}
	text, err := base64.RawURLEncoding.DecodeString(part[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil || claims.Event == "" {
		t.Fatalf("tokentest: there is no event token: %v", err)
	}
	return claims.Event
}

// EventHeader returns the JSON of a good header of an event token.
func (a *Authority) EventHeader() string {
	return fmt.Sprintf(`{"alg":"RS256","typ":"event+jwt","kid":"%s"}`, a.kid())
}

// Raw returns a token of any header and any claims, signed by key with RS256 whatever the header
// says. Both are taken as they are: they need not be JSON.
func (a *Authority) Raw(key *rsa.PrivateKey, header, claims string) string {
	a.t.Helper()
	return Sign(a.t, key, encode(header)+"."+encode(claims))
}

// Sign returns text with an RS256 signature behind it. The text is what stands before the second
// dot, already encoded.
func Sign(t testing.TB, key *rsa.PrivateKey, text string) string {
	t.Helper()
	signature, err := jwt.SigningMethodRS256.Sign(text, key)
	if err != nil {
		t.Fatalf("tokentest: sign: %v", err)
	}
	return text + "." + encode(string(signature))
}

// Header returns the JSON of a good header, with the authority's key id.
func (a *Authority) Header() string {
	return fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":"%s"}`, a.kid())
}

// Claims returns the JSON of good claims of an access token, with a jti of its own, no sid and no
// event token, as builds wrote them that had none.
func (a *Authority) Claims(role, sub, email string, iat, exp time.Time) string {
	return fmt.Sprintf(`{"iss":"pillion","aud":"pillion","sub":"%s","role":"%s","email":"%s","jti":"%s","iat":%d,"exp":%d}`,
		sub, role, email, newID(), iat.Unix(), exp.Unix())
}

// EventClaims returns the JSON of good claims of an event token, with a jti of its own and no sid.
func (a *Authority) EventClaims(role, sub string, iat, exp time.Time) string {
	return fmt.Sprintf(`{"iss":"pillion","aud":"pillion-ledger","sub":"%s","role":"%s","jti":"%s","iat":%d,"exp":%d}`,
		sub, role, newID(), iat.Unix(), exp.Unix())
}

// Rita and Ulla are identifiers to act with, where a test does not care which.
const (
	Rita = "ritaritaritaritaritaritari" // a rider
	Ulla = "ullaullaullaullaullaullaul" // a user
)

func (a *Authority) kid() string { return token.Thumbprint(&a.Private.PublicKey) }

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// newID returns a random identifier.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	var b [26]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b[:])
}

// A claim is what Claiming and Claimed know of a token.
type claim struct {
	jwt.RegisteredClaims
	Role string `json:"role,omitempty"`
}

// Claiming returns a token that claims to be of an account, and that no verifier accepts.
func Claiming(subject, role string) string {
	c := claim{jwt.RegisteredClaims{Subject: subject}, role}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte("known to everybody"))
	if err != nil { // an HMAC cannot fail
		panic(err)
	}
	return signed
}

// Claimed returns whom a token claims to be of, without verifying it, or nothing where it is none.
// It may have "Bearer " before it.
func Claimed(bearer string) (subject, role string) {
	var c claim
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(bearer, "Bearer "), &c); err != nil {
		return "", ""
	}
	return c.Subject, c.Role
}
