package access

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"github.com/example/pillion/bus"
)

// KeyFile returns where the key of one of our own processes is, in a folder.
func KeyFile(dir, who string) string { return filepath.Join(dir, who+".nk") }

// A Secret is what the callout answers with: it makes somebody known to the servers.
type Secret struct {
	Issuer nkeys.KeyPair
	XKey   nkeys.KeyPair
}

// LoadSecret returns the secret of the callout from a folder, or makes it there. All instances of authsvc need the same.
func LoadSecret(dir string) (Secret, error) {
	issuer, err := bus.LoadOrCreateKey(filepath.Join(dir, "callout-issuer.nk"), nkeys.PrefixByteAccount)
	if err != nil {
		return Secret{}, err
	}
	xkey, err := bus.LoadOrCreateKey(filepath.Join(dir, "callout-xkey.nk"), nkeys.PrefixByteCurve)
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
	return bus.LoadOrCreateKey(file, nkeys.PrefixByteUser)
}
