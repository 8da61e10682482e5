package authsvc

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

// A KeyRing has the private halves of the keys that tokens are signed with. They are files of PEM, readable by their owner only, in one
// folder that all instances share: the first key under a name that the operator chooses, those that follow it as <kid>.key. Nowhere
// else is a private key ever written. It is safe for concurrent use, by several processes too.
type KeyRing struct {
	first string // the file of the first key
	dir   string
	bits  int // of new keys

	mu   sync.Mutex
	keys map[string]*rsa.PrivateKey // by kid; what was read once stays in use
}

// NewKeyRing returns the ring whose first key is in file first, and which makes keys of that many bits.
func NewKeyRing(first string, bits int) *KeyRing {
	return &KeyRing{first: first, dir: filepath.Dir(first), bits: bits, keys: make(map[string]*rsa.PrivateKey)}
}

// ErrKeyNotHere is that the private half of a key is not in the folder.
var ErrKeyNotHere = fault.New(fault.Unavailable, "key_not_here",
	"Nobody can log in here at the moment, because the signing key is missing. Please try again in a moment.").After(time.Second)

// keyFileName matches the files that rings make.
var keyFileName = regexp.MustCompile(`^([A-Za-z0-9_-]{43})\.key$`)

// file is where a key is that a ring has made.
func (r *KeyRing) file(kid string) string { return filepath.Join(r.dir, kid+".key") }

// Find returns the private half of a key, or ErrKeyNotHere, or one of the errors of [LoadOrCreateKey].
func (r *KeyRing) Find(kid string) (*rsa.PrivateKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key, ok := r.keys[kid]; ok {
		return key, nil
	}
	for _, path := range []string{r.file(kid), r.first} {
		key, err := loadKey(path)
		switch {
		case errors.Is(err, errKeyFileNotThere):
			continue
		case err != nil:
			return nil, err
		}
		if r.keep(key) == kid {
			return key, nil
		}
	}
	return nil, ErrKeyNotHere.Because(fmt.Errorf("%s has no private half of %s. Give every authsvc the same folder", r.dir, kid))
}

// First returns the first key, and whether there is one.
func (r *KeyRing) First() (token.Key, bool, error) {
	key, err := loadKey(r.first)
	if errors.Is(err, errKeyFileNotThere) {
		return token.Key{}, false, nil
	}
	if err != nil {
		return token.Key{}, false, err
	}
	return r.public(key), true, nil
}

// MakeFirst returns the first key, and makes it where there is none.
func (r *KeyRing) MakeFirst() (token.Key, error) {
	key, err := LoadOrCreateKey(r.first, r.bits)
	if err != nil {
		return token.Key{}, err
	}
	return r.public(key), nil
}

// Make makes a further key.
func (r *KeyRing) Make() (token.Key, error) {
	key, err := rsa.GenerateKey(rand.Reader, r.bits)
	if err != nil {
		return token.Key{}, fmt.Errorf("make a key: %w", err)
	}
	path := r.file(token.Thumbprint(&key.PublicKey))
	if err := writeKey(path, key); err != nil {
		return token.Key{}, notWritten(path, err)
	}
	return r.public(key), nil
}

// Remove removes the file of a key that this ring has made, if it is there, and forgets the key.
func (r *KeyRing) Remove(kid string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, kid)
	if err := os.Remove(r.file(kid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a private key: %w", err)
	}
	return nil
}

// made returns the ids of the keys whose files are in the folder under the names that rings give, with the times they were made.
func (r *KeyRing) made() (map[string]time.Time, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("look for private keys: %w", err)
	}
	found := make(map[string]time.Time)
	for _, e := range entries {
		name := keyFileName.FindStringSubmatch(e.Name())
		if name == nil {
			continue
		}
		if info, err := e.Info(); err == nil { // else it has just been removed
			found[name[1]] = info.ModTime()
		}
	}
	return found, nil
}

// public keeps a key and returns its public half.
func (r *KeyRing) public(key *rsa.PrivateKey) token.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return token.Key{ID: r.keep(key), Public: &key.PublicKey}
}

// keep keeps a key and returns its id. The caller holds mu.
func (r *KeyRing) keep(key *rsa.PrivateKey) string {
	kid := token.Thumbprint(&key.PublicKey)
	r.keys[kid] = key
	return kid
}
