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

// errSecret refuses a file that holds too little.
var errSecret = fault.New(fault.Invalid, "rides_secret", "The secret of rides cannot be used.")

// A secret is what the services of users and of riders share. Each use of it has a key of its own.
type secret string

// loadSecret returns the secret in a file, which is made where there is none.
func loadSecret(path string) (secret, error) {
	text, err := secretfile.LoadOrCreate(path, "The secret of rides", secretText, func() ([]byte, error) {
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
		return "", errSecret.Saying(fmt.Sprintf("The secret of rides in %s is shorter than %d characters. Move it away and a new one is made.", path, secretSize))
	}
	return secret(s), nil
}

// key returns the key for one use (RFC 5869).
func (s secret) key(use string, size int) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(s), nil, "pillion "+use, size)
}

// startCodes returns the start codes that come from the secret.
func (s secret) startCodes() (*booking.StartCodes, error) {
	key, err := s.key("start codes", booking.StartCodeKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of start codes: %w", err)
	}
	return booking.NewStartCodes(key)
}
