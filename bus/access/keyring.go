package access

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// maxSeed bounds a file with a seed, in bytes.
const maxSeed = 1 << 10

// ErrKey is a file that does not hold the key it should.
var ErrKey = fault.New(fault.Invalid, "nats_key", "A key for NATS cannot be used.")

// KeyFile returns where the key of one of our own processes is, in a folder.
func KeyFile(dir, who string) string { return filepath.Join(dir, who+".nk") }

// A Secret is what the callout answers with: it makes somebody known to the servers.
type Secret struct {
	Issuer nkeys.KeyPair
	XKey   nkeys.KeyPair
}

// LoadSecret returns the secret of the callout from a folder, or makes it there. All instances of authsvc need the same.
func LoadSecret(dir string) (Secret, error) {
	issuer, err := load(filepath.Join(dir, "callout-issuer.nk"), nkeys.CreateAccount, nkeys.IsValidPublicAccountKey)
	if err != nil {
		return Secret{}, err
	}
	xkey, err := load(filepath.Join(dir, "callout-xkey.nk"), nkeys.CreateCurveKeys, nkeys.IsValidPublicCurveKey)
	return Secret{issuer, xkey}, err
}

// LoadOrCreate returns the public halves of all keys in a folder, and makes those that are missing, readable by their owner only. Errors are of
// kind fault.Invalid and name the file and the remedy.
func LoadOrCreate(dir string) (Public, error) {
	return LoadOrCreateIn(func(string) string { return dir })
}

// LoadOrCreateIn is LoadOrCreate with a folder for each of our own processes, so that none of them can read another one's key. What the callout
// needs is in authsvc's.
func LoadOrCreateIn(folder func(who string) string) (Public, error) {
	secret, err := LoadSecret(folder(Authsvc))
	if err != nil {
		return Public{}, err
	}
	p := Public{Services: map[string]string{}}
	if p.Issuer, err = secret.Issuer.PublicKey(); err != nil {
		return Public{}, err
	}
	if p.XKey, err = secret.XKey.PublicKey(); err != nil {
		return Public{}, err
	}
	// Nobody has the watcher's key.
	nobody, err := nkeys.CreateUser()
	if err != nil {
		return Public{}, fmt.Errorf("make a key for NATS: %w", err)
	}
	if p.Services[Watcher], err = nobody.PublicKey(); err != nil {
		return Public{}, err
	}
	for _, g := range keyed() {
		load, dir := bus.LoadOrCreateServiceKey, folder(g.Who)
		if g.Who == Callout {
			load, dir = LoadCallout, folder(Authsvc)
		}
		key, err := load(KeyFile(dir, g.Who))
		if err != nil {
			return Public{}, err
		}
		if p.Services[g.Who], err = key.PublicKey(); err != nil {
			return Public{}, err
		}
	}
	return p, nil
}

// LoadCallout returns the key in a file with which authsvc takes its place in the account of the callout, or makes it. Nobody gives it tokens, so
// there is no public half for authsvc to find.
func LoadCallout(file string) (nkeys.KeyPair, error) {
	return load(file, nkeys.CreateUser, nkeys.IsValidPublicUserKey)
}

// load returns the key whose seed is in a file, or makes one.
func load(path string, create func() (nkeys.KeyPair, error), valid func(public string) bool) (nkeys.KeyPair, error) {
	seed, err := secretfile.LoadOrCreate(path, "A key for NATS", maxSeed, func() ([]byte, error) {
		key, err := create()
		if err != nil {
			return nil, fmt.Errorf("make a key for NATS: %w", err)
		}
		return key.Seed()
	})
	if err != nil {
		return nil, err
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err == nil {
		var public string
		if public, err = key.PublicKey(); err == nil && valid(public) {
			return key, nil
		}
	}
	return nil, ErrKey.Saying(fmt.Sprintf("%s does not hold the seed of an nkey of the right kind. Move it away and a new key is made.", path)).Because(err)
}
