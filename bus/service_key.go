package bus

import (
	"fmt"
	"strings"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
	"github.com/nats-io/nkeys"
)

// maxSeed bounds the size of a file with a seed, in bytes.
const maxSeed = 1 << 10

// ErrServiceKey says that a file does not hold the seed of a user nkey.
var ErrServiceKey = fault.New(fault.Invalid, "service_key", "The service key cannot be used.")

// LoadOrCreateServiceKey returns the key pair whose seed is in a file that only its owner can read.
// Where the file is missing it creates one, and beside it, with the extension .pub, a file with the
// public key for authsvc. Errors are of kind fault.Invalid; they name the file and the remedy.
func LoadOrCreateServiceKey(path string) (nkeys.KeyPair, error) {
	seed, err := secretfile.LoadOrCreate(path, "The service key", maxSeed, func() ([]byte, error) {
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make a service key: %w", err)
		}
		return key.Seed()
	})
	if err != nil {
		return nil, err
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, ErrServiceKey.Saying(fmt.Sprintf("%s does not hold the seed of an nkey. Replace it, or move it away and a new key is made.", path)).Because(err)
	}
	public, err := key.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, ErrServiceKey.Saying(fmt.Sprintf("%s holds the seed of another kind of nkey than a user's. Replace it, or move it away and a new key is made.", path)).Because(err)
	}
	if err := secretfile.Create(strings.TrimSuffix(path, ".nk")+".pub", []byte(public+"\n")); err != nil {
		// Where the folder is read-only, an operator has put both files into place.
		return key, nil //nolint:nilerr // authsvc says so where the public one is missing
	}
	return key, nil
}
