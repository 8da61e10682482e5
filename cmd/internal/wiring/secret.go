package wiring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/example/pillion/authsvc/bound"
	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

const (
	secretSize = 32 // bytes
	secretText = 1 << 10
)

// errSecret means that a secret is too short, or is not the same everywhere.
var errSecret = fault.New(fault.Invalid, "rides_secret", "The rides secret cannot be used.")

// A secret is that of rides, which usersvc and ridersvc share, or that of accounts. A separate key
// is derived from it for each use.
type secret string

// ShareSecret makes sure that all files have the same rides secret. It creates the missing ones.
// Errors: those of kind fault.Invalid, which name the file and the remedy.
func ShareSecret(files ...string) error {
	create := newSecret
	var shared secret
	for i, file := range files {
		s, err := loadSecret(ridesSecret, file, create)
		if err != nil {
			return err
		}
		if i > 0 && s != shared {
			return errSecret.Sayingf(
				"The rides secrets in %s and %s differ. Copy one of them over the other.", files[0], file)
		}
		shared = s
		create = func() ([]byte, error) { return []byte(s + "\n"), nil }
	}
	return nil
}

// newSecret returns the text of a new secret.
func newSecret() ([]byte, error) {
	fresh := make([]byte, secretSize)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	return []byte(hex.EncodeToString(fresh) + "\n"), nil
}

// The names of the secrets in messages.
const (
	ridesSecret    = "The rides secret"
	accountsSecret = "The accounts secret"
)

// BindingKey returns the key that binds accounts and sessions to their buckets. It is derived from
// the secret beside the trust key, which only authsvc has. The file is created if it is missing.
func BindingKey(trustKey string) ([]byte, error) {
	s, err := loadSecret(accountsSecret, filepath.Join(filepath.Dir(trustKey), "accounts.secret"), newSecret)
	if err != nil {
		return nil, err
	}
	return s.key("account records", bound.KeySize)
}

// loadSecret reads the secret from a file, or creates the file with the result of create. what is
// its name in messages.
func loadSecret(what, path string, create func() ([]byte, error)) (secret, error) {
	text, err := secretfile.LoadOrCreate(path, what, secretText, create)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(text))
	if len(s) < secretSize {
		return "", errSecret.Sayingf(
			"%s in %s is shorter than %d characters. Restore the file from a copy.", what, path, secretSize)
	}
	return secret(s), nil
}

// key derives the key for one use (HKDF, RFC 5869).
func (s secret) key(use string, size int) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(s), nil, "pillion "+use, size)
}

// startCodes returns the start codes that are derived from the secret.
func (s secret) startCodes() (*booking.StartCodes, error) {
	key, err := s.key("start codes", booking.StartCodeKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of start codes: %w", err)
	}
	return booking.NewStartCodes(key)
}
