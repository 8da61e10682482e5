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
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
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
	return ErrFolder.Sayingf(
		"The certificates cannot be created in %s: %v. Make the folder writable, or choose another one.", dir,
		err).Because(err)
}

// An authority is a CA with its private key.
type authority struct {
	tls.Certificate
	pem []byte // the certificate
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
			return ca, false, ErrFolder.Sayingf(
				"%s exists, but the key of its CA is missing from %s. Restore the key, or move the certificates away.",
				cert, keyFile)
		}
	}
	if c.Renew {
		return ca, false,
			ErrFolder.Sayingf(
				"There is no CA in %s for renewing certificates. Create them without --renew first.", dir)
	}
	now := c.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Pillion CA for trying, of " + now.UTC().Format("2006-01-02 15:04:05")},
		NotBefore: now.Add(-early), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, key, err := certify(template, template, nil)
	if err != nil {
		return ca, false, err
	}
	// Write the key last: the CA exists once its key does.
	if err := secretfile.Replace(certFile, cert, 0o644); err != nil {
		return ca, false, failed(dir, err)
	}
	if err := secretfile.Create(keyFile, key); err != nil {
		return ca, false, failed(dir, err)
	}
	ca, err = readAuthority(certFile, keyFile)
	return ca, true, err
}

func readAuthority(certFile, keyFile string) (ca authority, err error) {
	fail := func(cause error) error {
		if errors.Is(cause, fs.ErrPermission) {
			return ErrFolder.Sayingf(
				"The CA in %s and %s belongs to another user. Run this as that user, or choose another folder.",
				certFile, keyFile).Because(cause)
		}
		return ErrFolder.Sayingf(
			"The CA in %s and %s cannot be used: %s. Move it and its certificates away to have new ones created.",
			certFile, keyFile, fault.Reason(cause)).Because(cause)
	}
	keyPEM, err := secretfile.Read(keyFile, 1<<16)
	if errors.Is(err, secretfile.ErrNotThere) {
		return ca, err
	}
	if open, ok := errors.AsType[*secretfile.TooOpenError](err); ok {
		return ca, ErrFolder.Saying(open.Sentence("The key of the CA"))
	}
	if err != nil {
		return ca, fail(err)
	}
	if ca.pem, err = os.ReadFile(certFile); err != nil {
		return ca, fail(err)
	}
	ca.Certificate, err = tls.X509KeyPair(ca.pem, keyPEM)
	for _, text := range [][]byte{ca.pem, keyPEM} {
		if block, _ := pem.Decode(text); block == nil {
			return ca, fail(errors.New("not in PEM"))
		}
	}
	if err != nil {
		return ca, fail(errors.New("the key does not match the certificate"))
	}
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
	now := c.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: h.Name}, NotBefore: now.Add(-early), NotAfter: now.Add(LeafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ca.Leaf.NotAfter.Before(template.NotAfter) {
		template.NotAfter = ca.Leaf.NotAfter
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
	cert, key, err := certify(template, ca.Leaf, ca.PrivateKey)
	if err != nil {
		return false, err
	}
	if err := secretfile.Replace(keyFile, key, 0o600); err != nil {
		return false, err
	}
	return true, secretfile.Replace(certFile, cert, 0o644)
}

// certify makes a key and a certificate for it, in PEM. The issuer's key signs the certificate, or
// its own key if that is nil.
func certify(template, issuer *x509.Certificate, signer crypto.PrivateKey) (cert, key []byte, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if signer == nil {
		signer = own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, own.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
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
	return secretfile.Replace(file, ca, 0o644)
}
