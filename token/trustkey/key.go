// Package trustkey signs the documents that every service believes, and opens them.
//
// authsvc has the private half, a [Key] from [LoadOrCreate]. Every service has the public half in a
// file, an [Anchor] from [LoadAnchor]. So whoever can write the bucket of a document can withhold
// it, and cannot forge it. [Key.Successor] replaces a key by another one, which the anchors of the
// former accept. A document is a JWT (EdDSA, RFC 8037) without an end.
package trustkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/golang-jwt/jwt/v5"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// The usual names of the files, of the private and the public half.
const (
	KeyFile    = "trust.key"
	AnchorFile = "trust.pub"
)

const (
	privateBlock    = "PRIVATE KEY"
	publicBlock     = "PUBLIC KEY"
	successionBlock = "PILLION TRUST SUCCESSION"

	maxFile        = 32 << 10 // bytes
	maxSuccessions = 16
)

// Errors of files. Their messages name the file and the remedy.
var (
	ErrKey    = fault.New(fault.Invalid, "trust_key", "The trust key cannot be used.")
	ErrAnchor = fault.New(fault.Invalid, "trust_anchor", "The public half of the trust key cannot be used.")
)

// A Key signs documents. A successor of another key proves with each document that the former key
// has named it.
type Key struct {
	private     ed25519.PrivateKey
	id          string
	successions []string // the proofs, of the first key's successor first
	former      []ed25519.PublicKey
}

// New returns a key that is in no file.
func New() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a trust key: %w", err)
	}
	return &Key{private: private, id: thumbprint(public(private))}, nil
}

// LoadOrCreate returns the key in a file that only its owner can read. It creates the file if it is
// missing, and AnchorFile beside it, the public half for services. Errors are of kind
// fault.Invalid.
func LoadOrCreate(path string) (*Key, error) {
	k, err := load(path, func() ([]byte, error) {
		k, err := New()
		if err != nil {
			return nil, err
		}
		return encode(k.private)
	})
	if err != nil {
		return nil, err
	}
	// If the folder is read-only, an operator has provided both files.
	_ = secretfile.Create(filepath.Join(filepath.Dir(path), AnchorFile), k.Public())
	return k, nil
}

// Load returns the key in a file. Errors are of kind fault.Invalid.
func Load(path string) (*Key, error) {
	return load(path, func() ([]byte, error) {
		return nil, ErrKey.Sayingf("There is no trust key in %s. Give the file of authsvc's with --trust-key.", path)
	})
}

func load(path string, create func() ([]byte, error)) (*Key, error) {
	data, err := secretfile.LoadOrCreate(path, "The trust key", maxFile, create)
	if err != nil {
		return nil, err
	}
	k, err := decode(data)
	if err != nil {
		return nil, ErrKey.Sayingf("%s does not hold a trust key. Restore it from a copy.", path).Because(err)
	}
	return k, nil
}

// encode returns the contents of a key's file.
func encode(private ed25519.PrivateKey, successions ...string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der})
	for _, s := range successions {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: successionBlock, Bytes: []byte(s)})...)
	}
	return data, nil
}

func decode(data []byte) (*Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != privateBlock {
		return nil, errors.New("it has no private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("its key is not of Ed25519")
	}
	k := &Key{private: private, id: thumbprint(public(private))}
	for {
		if block, rest = pem.Decode(rest); block == nil || block.Type != successionBlock {
			break
		}
		k.successions = append(k.successions, string(block.Bytes))
	}
	// What the file says of former keys is believed, as its private key is.
	for _, s := range k.successions {
		d, err := parse(succession, s, nil)
		if err != nil {
			return nil, fmt.Errorf("its succession: %w", err)
		}
		of, _, err := d.succession()
		if err != nil {
			return nil, fmt.Errorf("its succession: %w", err)
		}
		k.former = append(k.former, of)
	}
	return k, nil
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// thumbprint returns the id of a key (RFC 7638, RFC 8037).
func thumbprint(k ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(k) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Public returns the public half in PEM.
func (k *Key) Public() []byte {
	der, err := x509.MarshalPKIXPublicKey(public(k.private))
	if err != nil {
		panic(err) // every key of Ed25519 has that form
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der})
}

// Publish writes the public half to a file that all users can read, unless it is there.
func (k *Key) Publish(path string) error {
	if have, err := os.ReadFile(path); err == nil && string(have) == string(k.Public()) {
		return nil
	}
	if err := secretfile.Replace(path, k.Public(), 0o644); err != nil {
		return ErrAnchor.Sayingf("Cannot write the public half of the trust key to %s: %s. Make the folder writable.",
			path, fault.Reason(err)).Because(err)
	}
	return nil
}

// A named successor is the body of a succession.
type named struct {
	Of        []byte `json:"of"`
	Successor []byte `json:"successor"`
}

// Replace replaces the key in a file by a successor, which the key has signed. The anchors of the
// key accept what the successor signs, and refuse what the key signs from the first such document
// on. Errors are of kind fault.Invalid.
func Replace(path string) error {
	k, err := Load(path)
	if err != nil {
		return err
	}
	if len(k.successions) == maxSuccessions {
		return ErrKey.Sayingf("The trust key in %s has too many predecessors. "+
			"Give every service its public half, and remove all blocks but the first from the file.", path)
	}
	next, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a trust key: %w", err)
	}
	body, err := json.Marshal(named{public(k.private), next})
	if err != nil {
		return fmt.Errorf("name a successor: %w", err)
	}
	proof, err := k.sign(succession, Document{Subject: thumbprint(next), Body: body})
	if err != nil {
		return err
	}
	data, err := encode(private, append(k.successions, proof)...)
	if err == nil {
		err = secretfile.Replace(path, data, 0o600)
	}
	if err != nil {
		return ErrKey.Sayingf("Cannot write a new trust key to %s: %s. Make the folder writable.", path,
			fault.Reason(err)).Because(err)
	}
	return nil
}

// Sign returns a document of a kind, signed.
func (k *Key) Sign(kind Kind, d Document) (string, error) {
	raw, err := k.sign(kind, d, k.successions...)
	if err != nil {
		return "", fmt.Errorf("sign a document: %w", err)
	}
	return raw, nil
}

func (k *Key) sign(kind Kind, d Document, successions ...string) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: d.Subject}, Version: d.Version, Body: d.Body,
	})
	t.Header[headerKind], t.Header[headerKey] = string(kind), k.id
	if len(successions) > 0 {
		t.Header[headerSuccessions] = successions
	}
	return t.SignedString(k.private)
}

// Open opens a document that the key, or one of its predecessors, has signed. own reports whether
// it was the key.
func (k *Key) Open(kind Kind, subject string, raw []byte) (d Document, own bool, err error) {
	d, err = parse(kind, string(raw), func(h header) (ed25519.PublicKey, error) {
		for _, p := range append([]ed25519.PublicKey{public(k.private)}, k.former...) {
			if thumbprint(p) == h.key {
				own = h.key == k.id
				return p, nil
			}
		}
		return nil, errForeign
	})
	if err == nil && d.Subject != subject {
		err = errOther
	}
	if err != nil {
		return Document{}, false, err
	}
	return d, own, nil
}
