package token

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// A Key verifies signatures.
type Key struct {
	ID     string         // kid: always the Thumbprint of Public
	Public *rsa.PublicKey // must not be modified

	// The times are in whole seconds, and zero for what has not happened. A key without PublishedAt
	// and ActiveFrom has always been active.

	PublishedAt time.Time // when the key came into the set
	// when the key begins to sign; zero for the next key until that is decided
	ActiveFrom time.Time
	// RetiredAt is when the key stops signing. It may be in the future. A retired key verifies only
	// tokens with an iat up to then, which makes stealing it pointless. Choose a time when nobody
	// signs with it.
	RetiredAt time.Time
	// CompromisedAt is when others may have begun to sign with the key. Its tokens are refused in
	// requests. In events they are valid if the event was stored before then: a thief can choose
	// any iat.
	CompromisedAt time.Time
}

// A Stage is a stage in the life of a key.
type Stage string

// The stages, in their order.
const (
	Next        Stage = "next"        // published, not used yet
	Active      Stage = "active"      // signs
	Retired     Stage = "retired"     // verifies what it signed
	Compromised Stage = "compromised" // verifies only earlier events
)

// Stage returns the stage of the key at a time.
func (k Key) Stage(now time.Time) Stage {
	switch {
	case !k.CompromisedAt.IsZero():
		return Compromised
	case !k.RetiredAt.IsZero() && !now.Before(k.RetiredAt):
		return Retired
	case k.waits() || now.Before(k.ActiveFrom):
		return Next
	}
	return Active
}

// waits reports whether the key is next and its ActiveFrom is undecided.
func (k Key) waits() bool {
	return !k.PublishedAt.IsZero() && k.ActiveFrom.IsZero() && k.RetiredAt.IsZero() && k.CompromisedAt.IsZero()
}

// The sizes of a modulus in bits, and the exponent. Verifying with a much longer modulus would be
// slow.
const (
	minBits  = 2048
	maxBits  = 4096
	exponent = 65537
)

// checkPublic returns why a key may not verify, or nil.
func checkPublic(pub *rsa.PublicKey) error {
	switch {
	case pub == nil || pub.N == nil:
		return errors.New("it has no public key")
	case pub.N.Sign() <= 0 || pub.N.Bit(0) == 0:
		return errors.New("its modulus is not a positive odd number")
	case pub.N.BitLen() < minBits:
		return fmt.Errorf("it has %d bits, fewer than %d", pub.N.BitLen(), minBits)
	case pub.N.BitLen() > maxBits:
		return fmt.Errorf("it has %d bits, more than %d", pub.N.BitLen(), maxBits)
	case pub.E != exponent:
		return fmt.Errorf("its exponent is not %d", exponent)
	}
	return nil
}

// exponentText is 65537 in base64url, as RFC 7518 section 6.3.1.2 writes it.
const exponentText = "AQAB"

// modulusText returns the modulus in base64url, big-endian without leading zeros (RFC 7518 section
// 6.3.1.1).
func modulusText(pub *rsa.PublicKey) string {
	return base64.RawURLEncoding.EncodeToString(pub.N.Bytes())
}

// Thumbprint returns the id of a key: its RFC 7638 thumbprint with SHA-256, 43 characters of
// base64url.
func Thumbprint(pub *rsa.PublicKey) string {
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	// The required members, sorted by name, without white space (section 3.2).
	sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + modulusText(pub) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// PublicPEM returns a key as a PEM block "PUBLIC KEY" (PKIX, RFC 5280), which openssl and JWT
// libraries read.
func PublicPEM(pub *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("token: an RSA key has no PKIX form: " + err.Error()) // x509 encodes every RSA key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
