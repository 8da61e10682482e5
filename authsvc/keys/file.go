package keys

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
	minBits  = 2048
	maxBits  = 4096 // verifiers refuse larger keys, which would take too long to check
	exponent = 65537
	maxFile  = 64 << 10 // bytes; a key of 4096 bits has about 3 KiB
)

// Errors of key files. What callers get names the file and the remedy.
var (
	ErrFile        = fault.New(fault.Invalid, "key_file", "The private key file cannot be used.")
	ErrFileTooOpen = fault.New(fault.Invalid, "key_file_too_open", "Other users can read the private key file.")
	ErrFileNotPEM  = fault.New(fault.Invalid, "key_file_not_pem", "The private key file is not PEM.")
	ErrFileNotRSA  = fault.New(fault.Invalid, "key_file_not_rsa",
		"The private key file does not hold an RSA private key.")
	ErrFileUnfit = fault.New(fault.Invalid, "key_file_unfit",
		"The private key is too weak, or too large to sign tokens.")
	ErrBits   = fault.New(fault.Invalid, "key_bits", "A new private key can have 2048, 3072 or 4096 bits.")
	errNoFile = errors.New("no key file")
)

// LoadOrCreate returns the RSA private key in the PEM file at path. If there is no such file, it
// makes one with a new key of that many bits (2048, 3072 or 4096) that only its owner can read.
// Of several processes that do so at once, all get the same key. An existing file is never
// changed. It must hold PKCS#8 or PKCS#1, 2048 to 4096 bits and the exponent 65537, and only its
// owner may read it.
//
// All errors are faults of kind fault.Invalid that name the file and the remedy.
func LoadOrCreate(path string, bits int) (*rsa.PrivateKey, error) {
	key, err := load(path)
	if !errors.Is(err, errNoFile) {
		return key, err
	}
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, ErrBits.Sayingf("A new private key can have 2048, 3072 or 4096 bits, but not %d.", bits)
	}
	if err := create(path, bits); err != nil {
		return nil, notWritten(path, err)
	}
	// Another process may have been first: read what every process will read from now on.
	if key, err = load(path); errors.Is(err, errNoFile) {
		return nil, unreadable(path, err)
	}
	return key, err
}

func notWritten(path string, cause error) error {
	return ErrFile.Sayingf(
		"A private key could not be written to %s: %s. Make that folder writable, or name another file.", path,
		fault.Reason(cause)).Because(cause)
}

func unreadable(path string, cause error) error {
	return ErrFile.Sayingf(
		"The private key file %s cannot be read: %s. Name a file that this user may read.", path,
		fault.Reason(cause)).Because(cause)
}

// create writes a new key to path, unless the file exists by then.
func create(path string, bits int) error {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return err
	}
	return write(path, key)
}

// write writes a key to path, unless the file exists by then: overwriting a key would invalidate
// every token that it has signed.
func write(path string, key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return secretfile.Create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// load reads the key at path. It returns errNoFile if there is no file.
func load(path string) (*rsa.PrivateKey, error) {
	data, err := secretfile.Read(path, maxFile)
	var open *secretfile.TooOpenError
	switch {
	case err == nil:
		return parse(path, data)
	case errors.Is(err, secretfile.ErrNotThere):
		return nil, errNoFile
	case errors.As(err, &open):
		return nil, ErrFileTooOpen.Sayingf(
			"Users other than its owner can open the private key file %s (mode %04o). Close it with: chmod 600 %[1]s",
			path, open.Mode)
	case errors.Is(err, secretfile.ErrTooLong):
		return nil, notPEM(path, err)
	}
	return nil, unreadable(path, err)
}

func notPEM(path string, cause error) error {
	return ErrFileNotPEM.Sayingf(
		"The private key file %s is not one PEM block. Replace it, or move it away and a new key is made.",
		path).Because(cause)
}

func notRSA(path, what string) error {
	return ErrFileNotRSA.Sayingf(
		"The private key file %s holds %s and not an RSA private key. Replace it, or move it away and a new key is made.",
		path, what)
}

func unfit(path, what string) error {
	return ErrFileUnfit.Sayingf(
		"The private key in %s %s. Replace it, or move it away and a new key is made.", path, what)
}

// damaged keeps the parser's error as the cause: it tells of the structure and shows no part of
// the key.
func damaged(path string, cause error) error {
	return ErrFileNotRSA.Sayingf(
		"The private key file %s is damaged. Restore it from a copy, or move it away and a new key is made.",
		path).Because(cause)
}

// parse returns the key in the contents of a file, which must be fit to sign.
func parse(path string, data []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, notPEM(path, errors.New("it has no PEM block"))
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, notPEM(path, errors.New("something follows the first PEM block"))
	}
	key, err := parseBlock(path, block)
	if err != nil {
		return nil, err
	}
	if bits := key.N.BitLen(); bits < minBits || bits > maxBits {
		return nil, unfit(path, fmt.Sprintf("has %d bits, but it must have %d to %d", bits, minBits, maxBits))
	}
	if key.E != exponent {
		return nil, unfit(path, fmt.Sprintf("has the exponent %d, but it must be %d", key.E, exponent))
	}
	return key, nil
}

func parseBlock(path string, block *pem.Block) (*rsa.PrivateKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, damaged(path, err)
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
			return nil, damaged(path, err)
		}
		return key, nil
	case "ENCRYPTED PRIVATE KEY":
		return nil, notRSA(path, "a key under a passphrase")
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, notRSA(path, "something public")
	}
	return nil, notRSA(path, "something else")
}
