package bus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// maxSeed bounds the size of a file with a seed, in bytes.
const maxSeed = 1 << 10

// ErrServiceKey means that a file does not contain the seed of an nkey of the right kind.
var ErrServiceKey = fault.New(fault.Invalid, "service_key", "The key cannot be used.")

// LoadOrCreateServiceKey returns the user key whose seed is in a file that only its owner can read.
// It creates the file if it is missing, and beside it, with the extension .pub, a file with the
// public key for authsvc. Errors are of kind fault.Invalid and name the file and the remedy.
func LoadOrCreateServiceKey(path string) (nkeys.KeyPair, error) {
	key, err := LoadOrCreateKey(path, nkeys.PrefixByteUser)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, ErrServiceKey.Because(err)
	}
	// If the folder is read-only, an operator has provided both files. authsvc reports a missing
	// one.
	_ = secretfile.Create(strings.TrimSuffix(path, ".nk")+".pub", []byte(public+"\n"))
	return key, nil
}

// LoadOrCreateKey returns the key of a kind whose seed is in a file that only its owner can read.
// It creates the file if it is missing. Errors are of kind fault.Invalid and name the file and the
// remedy.
func LoadOrCreateKey(path string, kind nkeys.PrefixByte) (nkeys.KeyPair, error) {
	seed, err := secretfile.LoadOrCreate(path, "The nkey", maxSeed, func() ([]byte, error) {
		key, err := nkeys.CreatePair(kind)
		if err != nil {
			return nil, fmt.Errorf("create an nkey: %w", err)
		}
		return key.Seed()
	})
	if err != nil {
		return nil, err
	}
	const remedy = "Replace it, or move it away to have a new key created."
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, ErrServiceKey.Sayingf("%s does not hold the seed of an nkey. %s", path,
			remedy).Because(err)
	}
	public, err := key.PublicKey()
	if err != nil || nkeys.Prefix(public) != kind {
		return nil, ErrServiceKey.Sayingf("%s holds the seed of another kind of nkey. %s", path,
			remedy).Because(err)
	}
	return key, nil
}
