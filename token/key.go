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
	Public *rsa.PublicKey // not to be modified

	// The times of its life are in whole seconds, and zero for what has not happened. One that has neither PublishedAt nor ActiveFrom
	// has been active since ever.

	PublishedAt time.Time // when it came into the set
	ActiveFrom  time.Time // from when on it signs; zero for the next key, whose time has not been set
	// RetiredAt is from when on the key does not sign, which may be still to come. A retired key verifies only tokens with an
	// iat up to then, so that a stolen one is worth nothing. Say a moment when nobody signs with it any more.
	RetiredAt time.Time
	// CompromisedAt is as of when others may have signed with it. No request gets in with such a key, and events only those that were
	// stored up to then: an iat is the word of whoever signs.
	CompromisedAt time.Time
}

// A Stage is how far a key is in its life. The values are the words for people.
type Stage string

// The stages, in the order of a life.
const (
	Next        Stage = "next"        // published and not used
	Active      Stage = "active"      // signs
	Retired     Stage = "retired"     // verifies what it signed
	Compromised Stage = "compromised" // verifies only events of before
)

// Stage returns how far the key is at a time.
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

// waits reports whether nobody has said yet from when on the key is to sign.
func (k Key) waits() bool {
	return !k.PublishedAt.IsZero() && k.ActiveFrom.IsZero() && k.RetiredAt.IsZero() && k.CompromisedAt.IsZero()
}

// Sizes of a modulus. Nothing over 4096 bits is used here, and a much longer one would be a way to keep a verifier busy.
const (
	minBits  = 2048
	maxBits  = 4096
	exponent = 65537
)

// checkPublic returns why pub is not allowed, or nil.
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

// modulusText returns the modulus in base64url, big-endian without leading zeros (RFC 7518 section 6.3.1.1).
func modulusText(pub *rsa.PublicKey) string {
	return base64.RawURLEncoding.EncodeToString(pub.N.Bytes())
}

// Thumbprint returns the RFC 7638 thumbprint of a key, with SHA-256: 43 characters of base64url. It is the key's id.
func Thumbprint(pub *rsa.PublicKey) string {
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	// The required members in the order of their names, without white space (section 3.2).
	sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + modulusText(pub) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// PublicPEM returns a key as a PEM block "PUBLIC KEY" (PKIX, RFC 5280), which openssl and every library of JWTs reads.
func PublicPEM(pub *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("token: an RSA key has no PKIX form: " + err.Error()) // it always has, by the package's documentation
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
