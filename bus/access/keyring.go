package access

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token/trustkey"
)

// KeyFile returns the path of the key of one of Pillion's own processes in a folder.
func KeyFile(dir, who string) string { return filepath.Join(dir, who+".nk") }

// A CalloutSecret contains the private keys with which the callout answers servers. All instances
// of authsvc need the same.
type CalloutSecret struct {
	Issuer nkeys.KeyPair // signs answers
	XKey   nkeys.KeyPair // decrypts requests and encrypts answers
}

// LoadCalloutSecret returns the secret of the callout from a folder, and creates what is missing.
func LoadCalloutSecret(dir string) (CalloutSecret, error) {
	issuer, err := bus.LoadOrCreateKey(filepath.Join(dir, "callout-issuer.nk"), nkeys.PrefixByteAccount)
	if err != nil {
		return CalloutSecret{}, err
	}
	xkey, err := bus.LoadOrCreateKey(filepath.Join(dir, "callout-xkey.nk"), nkeys.PrefixByteCurve)
	return CalloutSecret{issuer, xkey}, err
}

// LoadOrCreate returns the public keys of a folder that contains all keys, and creates those that
// are missing, in files readable by their owner only. Errors are of kind fault.Invalid, and name
// the file and the remedy.
func LoadOrCreate(dir string) (PublicKeys, error) {
	return LoadOrCreateIn(func(string) string { return dir })
}

// LoadOrCreateIn is [LoadOrCreate] with a folder for each process, so that none of them can read
// another's key. The keys of the callout are in authsvc's folder, and so is the trust key, whose
// public half it writes to each folder.
func LoadOrCreateIn(folder func(who string) string) (PublicKeys, error) {
	secret, err := LoadCalloutSecret(folder(Authsvc))
	if err != nil {
		return PublicKeys{}, err
	}
	trust, err := trustkey.LoadOrCreate(filepath.Join(folder(Authsvc), trustkey.KeyFile))
	if err != nil {
		return PublicKeys{}, err
	}
	p := PublicKeys{Services: map[string]string{}}
	if p.Issuer, err = secret.Issuer.PublicKey(); err != nil {
		return PublicKeys{}, err
	}
	if p.XKey, err = secret.XKey.PublicKey(); err != nil {
		return PublicKeys{}, err
	}
	// The configuration must name a key for the watcher. Its private half is thrown away.
	watcher, err := nkeys.CreateUser()
	if err != nil {
		return PublicKeys{}, fmt.Errorf("create an nkey: %w", err)
	}
	if p.Services[Watcher], err = watcher.PublicKey(); err != nil {
		return PublicKeys{}, err
	}
	for _, g := range authenticated() {
		load, dir := bus.LoadOrCreateServiceKey, folder(g.Who)
		if g.Who == Callout {
			load, dir = LoadCalloutKey, folder(Authsvc)
		}
		if err := trust.Publish(filepath.Join(dir, trustkey.AnchorFile)); err != nil {
			return PublicKeys{}, err
		}
		key, err := load(KeyFile(dir, g.Who))
		if err != nil {
			return PublicKeys{}, err
		}
		if p.Services[g.Who], err = key.PublicKey(); err != nil {
			return PublicKeys{}, err
		}
	}
	return p, nil
}

// LoadCalloutKey returns the key in a file, with which authsvc authenticates to the account of the
// callout, or creates it. It writes no public half beside it: authsvc issues no token for this key.
func LoadCalloutKey(file string) (nkeys.KeyPair, error) {
	return bus.LoadOrCreateKey(file, nkeys.PrefixByteUser)
}
