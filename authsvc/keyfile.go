package authsvc

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

const (
	minKeyBits  = 2048
	maxKeyBits  = 4096 // more is refused by every verifier: checking it would take too long
	keyExponent = 65537
	maxKeyFile  = 64 << 10 // bytes; a key of 4096 bits has about 3 KiB
)

// What is wrong with a key file. Each comes with a sentence that names the file and the remedy.
var (
	ErrKeyFile         = fault.New(fault.Invalid, "key_file", "The private key file cannot be used.")
	ErrKeyFileTooOpen  = fault.New(fault.Invalid, "key_file_too_open", "The private key file can be read by others.")
	ErrKeyFileNotPEM   = fault.New(fault.Invalid, "key_file_not_pem", "The private key file is not PEM.")
	ErrKeyFileNotRSA   = fault.New(fault.Invalid, "key_file_not_rsa", "The private key file does not hold an RSA private key.")
	ErrKeyFileUnfit    = fault.New(fault.Invalid, "key_file_unfit", "The private key is too weak, or larger than tokens can be signed with.")
	ErrKeyBits         = fault.New(fault.Invalid, "key_bits", "A new private key can have 2048, 3072 or 4096 bits.")
	errKeyFileNotThere = errors.New("no key file")
)

// LoadOrCreateKey returns the RSA private key in the PEM file at path. Where there is no such file it makes one with a new key of
// that many bits (2048, 3072 or 4096), which only its owner can read; of several starters at once, all get the same key. A file
// that is there is read and never changed: PKCS#8 or PKCS#1, 2048 to 4096 bits, exponent 65537, readable by its owner only.
//
// All errors are faults of kind fault.Invalid that name the file and what to do about it.
func LoadOrCreateKey(path string, bits int) (*rsa.PrivateKey, error) {
	key, err := loadKey(path)
	if !errors.Is(err, errKeyFileNotThere) {
		return key, err
	}
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, ErrKeyBits.Saying(fmt.Sprintf("A new private key can have 2048, 3072 or 4096 bits, and not %d.", bits))
	}
	if err := createKey(path, bits); err != nil {
		return nil, notWritten(path, err)
	}
	// Read back, also where another starter was first: what counts is what everybody will read from now on.
	if key, err = loadKey(path); errors.Is(err, errKeyFileNotThere) {
		return nil, unreadable(path, err)
	}
	return key, err
}

func notWritten(path string, cause error) error {
	return ErrKeyFile.Saying(fmt.Sprintf("A private key could not be written to %s. Make that folder writable, or name another file.", path)).Because(cause)
}

func unreadable(path string, cause error) error {
	return ErrKeyFile.Saying(fmt.Sprintf("The private key file %s cannot be read. Make it a file that this user may read, or name another.", path)).Because(cause)
}

// createKey writes a new key to path, unless there is a file by then.
func createKey(path string, bits int) error {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return err
	}
	return writeKey(path, key)
}

// writeKey writes a key to path, unless there is a file by then: tokens signed with a key that is gone afterwards would verify nowhere.
func writeKey(path string, key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return secretfile.Create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func loadKey(path string) (*rsa.PrivateKey, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	return parseKey(path, data)
}

func readKeyFile(path string) ([]byte, error) {
	data, err := secretfile.Read(path, maxKeyFile)
	var open *secretfile.TooOpenError
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, secretfile.ErrNotThere):
		return nil, errKeyFileNotThere
	case errors.As(err, &open):
		return nil, ErrKeyFileTooOpen.Saying(fmt.Sprintf(
			"The private key file %s is open to others than its owner (mode %04o). Close it with: chmod 600 %[1]s", path, open.Mode))
	case errors.Is(err, secretfile.ErrTooLong):
		return nil, notPEM(path, err)
	}
	return nil, unreadable(path, err)
}

func notPEM(path string, cause error) error {
	return ErrKeyFileNotPEM.Saying(fmt.Sprintf(
		"The private key file %s is not one PEM block. Replace it, or move it away and a new key is made.", path)).Because(cause)
}

func notRSA(path, what string) error {
	return ErrKeyFileNotRSA.Saying(fmt.Sprintf(
		"The private key file %s holds %s and not an RSA private key. Replace it, or move it away and a new key is made.", path, what))
}

func parseKey(path string, data []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, notPEM(path, errors.New("there is no PEM block in it"))
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, notPEM(path, errors.New("something follows the first PEM block"))
	}
	key, err := parseRSA(path, block)
	if err != nil {
		return nil, err
	}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return nil, unfit(path, fmt.Sprintf("has %d bits, and it must have %d to %d", bits, minKeyBits, maxKeyBits))
	}
	if key.E != keyExponent {
		return nil, unfit(path, fmt.Sprintf("has the exponent %d, and it must be %d", key.E, keyExponent))
	}
	return key, nil
}

func unfit(path, what string) error {
	return ErrKeyFileUnfit.Saying(fmt.Sprintf("The private key in %s %s. Replace it, or move it away and a new key is made.", path, what))
}

func parseRSA(path string, block *pem.Block) (*rsa.PrivateKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, broken(path, err)
		}
		key, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return nil, notRSA(path, "another kind of key")
		}
		return key, nil
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, notRSA(path, "a key under a passphrase")
		}
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, broken(path, err)
		}
		return key, nil
	case "ENCRYPTED PRIVATE KEY":
		return nil, notRSA(path, "a key under a passphrase")
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, notRSA(path, "something public")
	}
	return nil, notRSA(path, "something else")
}

// broken has no cause from the parser that could show a part of a key, only what it says of the structure.
func broken(path string, cause error) error {
	return ErrKeyFileNotRSA.Saying(fmt.Sprintf(
		"The private key file %s is damaged. Restore it from a copy, or move it away and a new key is made.", path)).Because(cause)
}
