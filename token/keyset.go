package token

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"time"
)

// A KeySet is the keys that verify at one time. It is immutable: a change is another set.
//
// A key goes through a set as next (published, not used), active, retired, gone; rotation.go has the steps.
type KeySet struct {
	keys []Key
	byID map[string]int
}

// MaxKeys bounds a set. One has an active key, a next one and the retired ones of a ledger's age.
const MaxKeys = 256

// NewKeySet returns a set of keys, at least one, the active one first. It answers ErrKeySet for a key that is not RSA with 2048
// to 4096 bits and exponent 65537, one whose ID is not its thumbprint, and for one that stands there twice.
//
// That the id is the thumbprint is what makes caching by key id sound: the same id is never another key.
func NewKeySet(keys ...Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, ErrKeySet.Because(errors.New("it has no key"))
	}
	if len(keys) > MaxKeys {
		return nil, ErrKeySet.Because(fmt.Errorf("it has %d keys, more than %d", len(keys), MaxKeys))
	}
	s := &KeySet{keys: make([]Key, 0, len(keys)), byID: make(map[string]int, len(keys))}
	for i, k := range keys {
		if err := checkPublic(k.Public); err != nil {
			return nil, ErrKeySet.Because(fmt.Errorf("key %d: %w", i+1, err))
		}
		if k.ID != Thumbprint(k.Public) {
			return nil, ErrKeySet.Because(fmt.Errorf("key %d: its id is not its thumbprint", i+1))
		}
		if _, there := s.byID[k.ID]; there {
			return nil, ErrKeySet.Because(fmt.Errorf("key %d: its id stands there twice", i+1))
		}
		for what, t := range k.times() {
			if t.IsZero() {
				continue
			}
			// Whole seconds, as on the wire, so that every reader of a set judges alike.
			seconds := t.Unix()
			if seconds < 0 || seconds > maxNumber {
				return nil, ErrKeySet.Because(fmt.Errorf("key %d: its %s is no possible time", i+1, what))
			}
			*t = at(seconds)
		}
		k.Public = &rsa.PublicKey{N: new(big.Int).Set(k.Public.N), E: k.Public.E}
		s.byID[k.ID] = len(s.keys)
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// Lookup returns the key with an id, and whether the set has it.
func (s *KeySet) Lookup(kid string) (Key, bool) {
	i, ok := s.byID[kid]
	if !ok {
		return Key{}, false
	}
	return s.keys[i], true
}

// Active returns the key that signs at a time: of those that are active then, the one that became it last. There may be none.
func (s *KeySet) Active(now time.Time) (Key, bool) {
	best := -1
	for i, k := range s.keys {
		if k.Stage(now) == Active && (best < 0 || k.ActiveFrom.After(s.keys[best].ActiveFrom)) {
			best = i
		}
	}
	if best < 0 {
		return Key{}, false
	}
	return s.keys[best], true
}

// Keys returns the keys in their order.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// times returns the times of a key's life by their names on the wire.
func (k *Key) times() iter.Seq2[string, *time.Time] {
	return func(yield func(string, *time.Time) bool) {
		_ = yield("published_at", &k.PublishedAt) && yield("active_from", &k.ActiveFrom) &&
			yield("retired_at", &k.RetiredAt) && yield("compromised_at", &k.CompromisedAt)
	}
}

// A jwk is one key on the wire, as we write it: RFC 7517, with private members for the times of its life, in seconds since 1970.
type jwk struct {
	Kty           string `json:"kty"`
	Use           string `json:"use"`
	Alg           string `json:"alg"`
	Kid           string `json:"kid"`
	N             string `json:"n"`
	E             string `json:"e"`
	PublishedAt   *int64 `json:"published_at,omitempty"`
	ActiveFrom    *int64 `json:"active_from,omitempty"`
	RetiredAt     *int64 `json:"retired_at,omitempty"`
	CompromisedAt *int64 `json:"compromised_at,omitempty"`
}

// wireTime returns t as a jwk has it.
func wireTime(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

// JWKS returns the set as RFC 7517 has it. ParseJWKS reads it back.
func (s *KeySet) JWKS() []byte {
	doc := struct {
		Keys []jwk `json:"keys"`
	}{Keys: make([]jwk, len(s.keys))}
	for i, k := range s.keys {
		doc.Keys[i] = jwk{
			Kty: "RSA", Use: "sig", Alg: "RS256", Kid: k.ID, N: modulusText(k.Public), E: exponentText,
			PublishedAt: wireTime(k.PublishedAt), ActiveFrom: wireTime(k.ActiveFrom),
			RetiredAt: wireTime(k.RetiredAt), CompromisedAt: wireTime(k.CompromisedAt),
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		panic("token: a key set has no JSON form: " + err.Error()) // it is made of strings and integers
	}
	return data
}

// maxJWKS bounds a key set's text, in bytes: MaxKeys of maxBits fit.
const maxJWKS = 256 << 10

// ParseJWKS reads a key set strictly, and takes it as a whole or answers ErrKeySet. Every key must be RSA of 2048 to 4096 bits
// with exponent 65537, for RS256 by alg, for verifying signatures by use or key_ops or both, without any private part, and with
// its thumbprint as its kid, no two alike. Members that mean nothing here are ignored, as RFC 7517 section 4 asks (x5u and the
// like are never followed), but their JSON is held to the same rules as a token's.
func ParseJWKS(data []byte) (*KeySet, error) {
	if len(data) > maxJWKS {
		return nil, ErrKeySet.Because(errors.New("it is longer than 256 KiB"))
	}
	var keys []Key
	err := scan(data, func(sc scanner, name string) error {
		if name != "keys" {
			if foldsTo(name, "keys") {
				return errFold
			}
			return sc.skip()
		}
		return sc.array(func() error {
			k, err := sc.key()
			if err != nil {
				return fmt.Errorf("key %d: %w", len(keys)+1, err)
			}
			keys = append(keys, k)
			return nil
		})
	})
	if err != nil {
		return nil, ErrKeySet.Because(err)
	}
	return NewKeySet(keys...)
}

// jwkNames are the members of a JWK that mean something here.
var jwkNames = [...]string{
	"kty", "use", "alg", "kid", "n", "e", "key_ops", "d", "p", "q", "dp", "dq", "qi", "oth", "k",
	"published_at", "active_from", "retired_at", "compromised_at",
}

// key reads one JWK. NewKeySet judges the numbers.
func (s scanner) key() (Key, error) {
	var kty, use, alg, kid, n, e string
	var ops bool
	var k Key
	err := s.object(func(name string) (err error) {
		switch name {
		case "kty":
			kty, err = s.text()
		case "use":
			if use, err = s.text(); err == nil && use != "sig" {
				err = errors.New("its use is not sig")
			}
		case "alg":
			alg, err = s.text()
		case "kid":
			kid, err = s.text()
		case "n":
			n, err = s.text()
		case "e":
			e, err = s.text()
		case "key_ops":
			ops, err = s.onlyVerify()
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
			err = errors.New("it has a private part, which is no longer private: replace that key")
		default:
			for what, t := range k.times() {
				if what == name {
					var seconds int64
					seconds, err = s.seconds()
					*t = at(seconds)
					return err
				}
			}
			if foldsTo(name, jwkNames[:]...) {
				return errFold
			}
			err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return Key{}, err
	case kty != "RSA":
		return Key{}, errors.New("its kty is not RSA")
	case alg != "RS256":
		return Key{}, errors.New("its alg is not RS256")
	case use == "" && !ops:
		return Key{}, errors.New("neither use nor key_ops say that it verifies")
	case e != exponentText:
		return Key{}, fmt.Errorf("its exponent is not %d", exponent)
	}
	modulus := make([]byte, segments.DecodedLen(len(n)))
	size, err := segments.Decode(modulus, []byte(n))
	// Go's decoder skips line breaks, which a re-encoding does not have.
	if err != nil || size == 0 || modulus[0] == 0 || segments.EncodeToString(modulus[:size]) != n {
		return Key{}, errors.New("its modulus is not strict base64url without leading zeros")
	}
	k.ID, k.Public = kid, &rsa.PublicKey{N: new(big.Int).SetBytes(modulus[:size]), E: exponent}
	return k, nil
}

// onlyVerify reads key_ops, which must allow verify and nothing else.
func (s scanner) onlyVerify() (bool, error) {
	n := 0
	err := s.array(func() error {
		op, err := s.text()
		if err == nil && op != "verify" {
			err = errors.New("its key_ops allow something else than verify")
		}
		n++
		return err
	})
	if err == nil && n != 1 {
		err = errors.New("its key_ops do not say verify once")
	}
	return err == nil, err
}

// forever is as long as a set that cannot change stays complete.
func forever() time.Time { return time.Unix(maxNumber, 0).UTC() }
