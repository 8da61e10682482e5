// Package keys keeps the RSA keys that sign tokens: their files, their rotation, and the signing.
//
// Make a [Ring] with [NewRing] for the folder of the private keys. Give it to a [Rotator], which
// publishes the public keys and replaces them, and to a [Signer], which issues tokens. The package
// verifies nothing: verifiers get the published set as a token.Keys.
package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A Ring holds the private keys. Each is a PEM file that only its owner can read, in one folder
// that all instances of authsvc share: the first key has a name that the operator chooses, later
// ones are called <kid>.key. Private keys are written nowhere else. A Ring is safe for concurrent
// use, also by several processes.
type Ring struct {
	first string // the file of the first key
	dir   string
	bits  int // of new keys

	mu   sync.Mutex
	keys map[string]*rsa.PrivateKey // by kid; a key that was read stays in memory
}

// NewRing returns the ring whose first key is in the file first. New keys have that many bits.
func NewRing(first string, bits int) *Ring {
	return &Ring{first: first, dir: filepath.Dir(first), bits: bits, keys: make(map[string]*rsa.PrivateKey)}
}

// ErrNotHere says that the folder lacks the private half of a key.
var ErrNotHere = fault.New(fault.Unavailable, "key_not_here",
	"Nobody can log in here right now because the signing key is missing. Please try again in a moment.",
).After(time.Second)

// madeFile matches the names of the files that rings make.
var madeFile = regexp.MustCompile(`^([A-Za-z0-9_-]{43})\.key$`)

// file returns the path of a key that a ring has made.
func (r *Ring) file(kid string) string { return filepath.Join(r.dir, kid+".key") }

// Find returns the private half of a key. Errors: ErrNotHere, and those of [LoadOrCreate].
func (r *Ring) Find(kid string) (*rsa.PrivateKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key, ok := r.keys[kid]; ok {
		return key, nil
	}
	for _, path := range []string{r.file(kid), r.first} {
		key, err := load(path)
		switch {
		case errors.Is(err, errNoFile):
			continue
		case err != nil:
			return nil, err
		}
		if r.remember(key) == kid {
			return key, nil
		}
	}
	return nil, ErrNotHere.Because(fmt.Errorf("%s has no private half of %s. Give every authsvc the same folder", r.dir,
		kid))
}

// First returns the first key and reports whether it exists. Errors are those of [LoadOrCreate].
func (r *Ring) First() (token.Key, bool, error) {
	key, err := load(r.first)
	if errors.Is(err, errNoFile) {
		return token.Key{}, false, nil
	}
	if err != nil {
		return token.Key{}, false, err
	}
	return r.add(key), true, nil
}

// MakeFirst returns the first key, and makes it if it does not exist. Errors are those of
// [LoadOrCreate].
func (r *Ring) MakeFirst() (token.Key, error) {
	key, err := LoadOrCreate(r.first, r.bits)
	if err != nil {
		return token.Key{}, err
	}
	return r.add(key), nil
}

// Make makes another key. It returns ErrFile when the key cannot be written.
func (r *Ring) Make() (token.Key, error) {
	key, err := rsa.GenerateKey(rand.Reader, r.bits)
	if err != nil {
		return token.Key{}, fmt.Errorf("make a key: %w", err)
	}
	path := r.file(token.Thumbprint(&key.PublicKey))
	if err := write(path, key); err != nil {
		return token.Key{}, notWritten(path, err)
	}
	return r.add(key), nil
}

// Remove forgets a key and removes its file, if a ring has made it. A missing file is no error.
func (r *Ring) Remove(kid string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, kid)
	if err := os.Remove(r.file(kid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a private key: %w", err)
	}
	return nil
}

// made returns the ids of the keys in the folder that rings have made, and when each was made.
func (r *Ring) made() (map[string]time.Time, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("look for private keys: %w", err)
	}
	found := make(map[string]time.Time)
	for _, e := range entries {
		name := madeFile.FindStringSubmatch(e.Name())
		if name == nil {
			continue
		}
		if info, err := e.Info(); err == nil { // otherwise it has just been removed
			found[name[1]] = info.ModTime()
		}
	}
	return found, nil
}

// add remembers a key and returns its public half.
func (r *Ring) add(key *rsa.PrivateKey) token.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return token.Key{ID: r.remember(key), Public: &key.PublicKey}
}

// remember keeps a key in memory and returns its id. The caller holds mu.
func (r *Ring) remember(key *rsa.PrivateKey) string {
	kid := token.Thumbprint(&key.PublicKey)
	r.keys[kid] = key
	return kid
}
