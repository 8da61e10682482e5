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

// A KeySet is the set of keys that verify tokens. It is immutable: a change makes another set. A
// key passes through the stages Next, Active and Retired, and then leaves the set. The methods in
// rotation.go make the changes.
type KeySet struct {
	keys []Key
	byID map[string]int

	oldRuleUntil *uint64 // see OldRuleUntil; nil: the old rule is open
}

// MaxKeys bounds a set. A set keeps retired keys for as long as the ledger keeps events.
const MaxKeys = 256

// NewKeySet returns a set of at least one key. It returns ErrKeySet for a key that is not RSA with
// 2048 to 4096 bits and exponent 65537, for an ID that is not the thumbprint, and for a duplicate.
//
// Because an ID is a thumbprint, it never stands for another key, and callers may cache by it.
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
			return nil, ErrKeySet.Because(fmt.Errorf("key %d: its id occurs twice", i+1))
		}
		for what, t := range k.times() {
			if t.IsZero() {
				continue
			}
			// Whole seconds, as in JSON, so that all readers of a set reach the same verdicts.
			seconds := t.Unix()
			if seconds < 0 || seconds > maxNumber {
				return nil, ErrKeySet.Because(fmt.Errorf("key %d: its %s is out of range", i+1, what))
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

// Active returns the key that signs at a time: the active one with the latest ActiveFrom. There may
// be none.
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

// Keys returns a copy of the keys, in their order.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// OldRuleUntil returns the sequence of the ledger after which [Verifier.VerifyAccessAt] refuses
// every event. closed is false while there is none.
func (s *KeySet) OldRuleUntil() (seq uint64, closed bool) {
	if s.oldRuleUntil == nil {
		return 0, false
	}
	return *s.oldRuleUntil, true
}

// CloseOldRule returns the set whose old rule ends at a sequence. It returns the same set if that
// ends there already, or before: what is closed is never opened again.
func (s *KeySet) CloseOldRule(seq uint64) *KeySet {
	if until, closed := s.OldRuleUntil(); closed && until <= seq {
		return s
	}
	changed := *s
	changed.oldRuleUntil = &seq
	return &changed
}

// with returns a set of other keys that is otherwise the same. Errors are those of NewKeySet.
func (s *KeySet) with(keys ...Key) (*KeySet, error) {
	changed, err := NewKeySet(keys...)
	if err != nil {
		return nil, err
	}
	changed.oldRuleUntil = s.oldRuleUntil
	return changed, nil
}

// times returns the times of a key by their names in JSON.
func (k *Key) times() iter.Seq2[string, *time.Time] {
	return func(yield func(string, *time.Time) bool) {
		_ = yield("published_at", &k.PublishedAt) && yield("active_from", &k.ActiveFrom) &&
			yield("retired_at", &k.RetiredAt) && yield("compromised_at", &k.CompromisedAt)
	}
}

// A jwk is a key in JSON: RFC 7517, with private members for its times, in seconds since 1970.
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

// wireTime returns a time in the form of a jwk.
func wireTime(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

// JWKS returns the set in JSON (RFC 7517). ParseJWKS reads it back.
func (s *KeySet) JWKS() []byte {
	doc := struct {
		Keys         []jwk   `json:"keys"`
		OldRuleUntil *uint64 `json:"old_rule_until,omitempty"`
	}{make([]jwk, len(s.keys)), s.oldRuleUntil}
	for i, k := range s.keys {
		doc.Keys[i] = jwk{
			Kty: "RSA", Use: "sig", Alg: "RS256", Kid: k.ID, N: modulusText(k.Public), E: exponentText,
			PublishedAt: wireTime(k.PublishedAt), ActiveFrom: wireTime(k.ActiveFrom),
			RetiredAt: wireTime(k.RetiredAt), CompromisedAt: wireTime(k.CompromisedAt),
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		// it has only strings and integers
		panic("token: a key set has no JSON form: " + err.Error())
	}
	return data
}

// maxJWKS bounds the JSON of a key set, in bytes. MaxKeys keys of maxBits fit.
const maxJWKS = 256 << 10

// ParseJWKS reads a key set strictly, as a whole. Errors: ErrKeySet. Every key must be RSA of 2048
// to 4096 bits with exponent 65537, for RS256 (alg), for verifying signatures (use, key_ops or
// both), without private parts, and with its thumbprint as kid. No kid may occur twice. Unknown
// members are ignored (RFC 7517 section 4), and links such as x5u are never followed, but their
// JSON must be as strict as a token's.
func ParseJWKS(data []byte) (*KeySet, error) {
	if len(data) > maxJWKS {
		return nil, ErrKeySet.Because(errors.New("it is longer than 256 KiB"))
	}
	var keys []Key
	var rest KeySet
	err := scan(data, func(sc scanner, name string) error {
		switch {
		case name == "keys":
			return sc.array(func() error {
				k, err := sc.key()
				if err != nil {
					return fmt.Errorf("key %d: %w", len(keys)+1, err)
				}
				keys = append(keys, k)
				return nil
			})
		case name == "old_rule_until":
			seq, err := sc.sequence()
			rest.oldRuleUntil = &seq
			return err
		case foldsTo(name, "keys", "old_rule_until"):
			return errFold
		}
		return sc.skip()
	})
	if err != nil {
		return nil, ErrKeySet.Because(err)
	}
	return rest.with(keys...)
}

// jwkNames are the members of a JWK that ParseJWKS knows.
var jwkNames = [...]string{
	"kty", "use", "alg", "kid", "n", "e", "key_ops", "d", "p", "q", "dp", "dq", "qi", "oth", "k",
	"published_at", "active_from", "retired_at", "compromised_at",
}

// key reads one JWK. NewKeySet checks the numbers.
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
			err = errors.New("it has a private part, which is now public: replace the key")
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
		return Key{}, errors.New("neither use nor key_ops allow it to verify")
	case e != exponentText:
		return Key{}, fmt.Errorf("its exponent is not %d", exponent)
	}
	modulus := make([]byte, segments.DecodedLen(len(n)))
	size, err := segments.Decode(modulus, []byte(n))
	// Go's decoder skips line breaks: comparing with the re-encoded modulus refuses them.
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
			err = errors.New("its key_ops allow more than verify")
		}
		n++
		return err
	})
	if err == nil && n != 1 {
		err = errors.New("its key_ops are not verify, once")
	}
	return err == nil, err
}

// forever is the time as of which an immutable set is complete.
func forever() time.Time { return time.Unix(maxNumber, 0).UTC() }
