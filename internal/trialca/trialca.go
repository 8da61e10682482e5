// Package trialca creates a certificate authority and its certificates, for trying Pillion with
// TLS.
//
// Call [Make] to fill a folder. Do not use it in production: the CA's key is in a file without a
// password, and certificates cannot be revoked.
package trialca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// The lifetimes of certificates.
const (
	CALife   = 5 * 365 * 24 * time.Hour
	LeafLife = 397 * 24 * time.Hour // browsers accept no more
)

// The files of a CA.
const (
	CACert = "ca.crt"
	CAKey  = "ca.key"
)

// early is how long before its creation a certificate becomes valid, because other clocks may be
// slow.
const early = 5 * time.Minute

// ErrFolder means that certificates cannot be created in a folder. Its message gives the reason.
var ErrFolder = fault.New(fault.Invalid, "certificates_folder", "The certificates cannot be created in this folder.")

// A Holder is the owner of a certificate, which is in NAME.crt; the key is in NAME.key, mode 0600.
type Holder struct {
	Name  string
	Hosts []string // host names and addresses
	// Peer makes the certificate valid for clients too, as the servers of a cluster need it.
	Peer bool
}

// A Config says what to create. Folder and Holders are required.
type Config struct {
	// Folder returns the folder of a holder's files and of a copy of the CA's certificate. The
	// folder of "ca" has the CA's key.
	Folder  func(name string) string
	Public  string // a folder for another copy of the CA's certificate, or ""
	Holders []Holder
	Renew   bool             // replace existing certificates and their keys, with the same CA
	Now     func() time.Time // time.Now by default
}

// Make creates the missing certificates, and the CA if it is missing, and returns the names of what
// it has created. Existing certificates stay unless c.Renew is set; an existing CA always stays.
// Errors: ErrFolder.
func Make(c Config) (made []string, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	ca, fresh, err := c.authority()
	if err != nil {
		return nil, err
	}
	if fresh {
		made = append(made, "ca")
	}
	if c.Public != "" {
		if err := copyTo(c.Public, ca.pem); err != nil {
			return nil, failed(c.Public, err)
		}
	}
	for _, h := range c.Holders {
		did, err := c.issue(ca, h)
		if err != nil {
			return nil, failed(c.Folder(h.Name), err)
		}
		if did {
			made = append(made, h.Name)
		}
	}
	return made, nil
}

// failed returns ErrFolder for an error, unless the error has a message already.
func failed(dir string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return ErrFolder.Saying(fmt.Sprintf(
		"The certificates cannot be created in %s: %v. Make the folder writable, or choose another one.", dir,
		err)).Because(err)
}

// An authority is a CA with its private key.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  crypto.Signer
}

// authority returns the existing CA, or a new one.
func (c Config) authority() (_ authority, fresh bool, err error) {
	dir := c.Folder("ca")
	certFile, keyFile := filepath.Join(dir, CACert), filepath.Join(dir, CAKey)
	ca, err := readAuthority(certFile, keyFile)
	if err == nil || !errors.Is(err, secretfile.ErrNotThere) {
		return ca, false, err
	}
	// Certificates of an older CA would not be trusted with a new one.
	for _, h := range c.Holders {
		if cert := filepath.Join(c.Folder(h.Name), h.Name+".crt"); exists(cert) {
			return ca, false, ErrFolder.Saying(fmt.Sprintf(
				"%s exists, but the key of its CA is missing from %s. Restore the key, or move the certificates away.",
				cert, keyFile))
		}
	}
	if c.Renew {
		return ca, false,
			ErrFolder.Saying(fmt.Sprintf(
				"There is no CA in %s for renewing certificates. Create them without --renew first.", dir))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ca, false, err
	}
	now := c.Now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "Pillion CA for trying, of " + now.UTC().Format("2006-01-02 15:04:05")},
		NotBefore:    now.Add(-early), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return ca, false, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return ca, false, err
	}
	// Write the key last: the CA exists once its key does.
	if err := replace(certFile, encodeCert(der), 0o644); err != nil {
		return ca, false, failed(dir, err)
	}
	if err := secretfile.Create(keyFile, keyPEM); err != nil {
		return ca, false, failed(dir, err)
	}
	ca, err = readAuthority(certFile, keyFile)
	return ca, true, err
}

func readAuthority(certFile, keyFile string) (ca authority, err error) {
	fail := func(cause error) error {
		return ErrFolder.Saying(fmt.Sprintf(
			"The CA in %s and %s cannot be used. Move it and its certificates away to have new ones created.",
			certFile, keyFile)).Because(cause)
	}
	keyPEM, err := secretfile.Read(keyFile, 1<<16)
	var open *secretfile.TooOpenError
	switch {
	case errors.Is(err, secretfile.ErrNotThere):
		return ca, err
	case errors.As(err, &open):
		return ca, ErrFolder.Saying(fmt.Sprintf(
			"The key of the CA in %s is open to other users than its owner (mode %04o). Protect it with: chmod 600 %[1]s",
			keyFile, open.Mode))
	case err != nil:
		return ca, fail(err)
	}
	if ca.pem, err = os.ReadFile(certFile); err != nil {
		return ca, fail(err)
	}
	keyBlock, _ := pem.Decode(keyPEM)
	certBlock, _ := pem.Decode(ca.pem)
	if keyBlock == nil || certBlock == nil {
		return ca, fail(errors.New("not in PEM"))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return ca, fail(err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return ca, fail(errors.New("not an elliptic curve key"))
	}
	if ca.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return ca, fail(err)
	}
	if !key.PublicKey.Equal(ca.cert.PublicKey) {
		return ca, fail(errors.New("the key does not match the certificate"))
	}
	ca.key = key
	return ca, nil
}

// issue creates the files of a holder if they are missing or to be renewed. It reports whether it
// did.
func (c Config) issue(ca authority, h Holder) (bool, error) {
	dir := c.Folder(h.Name)
	certFile, keyFile := filepath.Join(dir, h.Name+".crt"), filepath.Join(dir, h.Name+".key")
	if err := copyTo(dir, ca.pem); err != nil {
		return false, err
	}
	if exists(certFile) && exists(keyFile) && !c.Renew {
		return false, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, err
	}
	now := c.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: h.Name},
		NotBefore: now.Add(-early), NotAfter: earlier(now.Add(LeafLife), ca.cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if h.Peer {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, host := range h.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return false, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return false, err
	}
	if err := replace(keyFile, keyPEM, 0o600); err != nil {
		return false, err
	}
	return true, replace(certFile, encodeCert(der), 0o644)
}

// serial returns a unique serial number of 127 random bits. RFC 5280 allows up to 20 bytes.
func serial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// copyTo copies the CA's certificate to a folder, unless it is there.
func copyTo(dir string, ca []byte) error {
	file := filepath.Join(dir, CACert)
	if there, err := os.ReadFile(file); err == nil && bytes.Equal(there, ca) {
		return nil
	}
	return replace(file, ca, 0o644)
}

// replace writes a file atomically.
func replace(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // best effort
	}
	return err
}
