package wiring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

const (
	secretSize = 32 // bytes
	secretText = 1 << 10
)

// errSecret means that the secret in the file is too short.
var errSecret = fault.New(fault.Invalid, "rides_secret", "The rides secret is too short.")

// A secret is shared by usersvc and ridersvc. A separate key is derived from it for each use.
type secret string

// loadSecret reads the secret from a file, or creates the file.
func loadSecret(path string) (secret, error) {
	text, err := secretfile.LoadOrCreate(path, "The rides secret", secretText, func() ([]byte, error) {
		fresh := make([]byte, secretSize)
		if _, err := rand.Read(fresh); err != nil {
			return nil, err
		}
		return []byte(hex.EncodeToString(fresh) + "\n"), nil
	})
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(text))
	if len(s) < secretSize {
		return "", errSecret.Saying(fmt.Sprintf(
			"The rides secret in %s is shorter than %d characters. Move the file away to have a new one made.", path,
			secretSize))
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
