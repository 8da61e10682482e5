// Package certfile loads TLS certificates from files, and reloads them when they change, without a
// restart.
//
// Call [Load] for the certificate of a server, and [Authorities] for the CAs that a client trusts.
// All connections use TLS 1.3.
//
// A bad pair, for example one of which only one file has been replaced so far, never takes the
// place of a good one: the old pair stays in use until the new one is complete. Even so, replace
// files by renaming new ones into place.
package certfile

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// Errors of this package. Their messages name the file and the remedy.
var (
	ErrCertificate = fault.New(fault.Invalid, "certificate", "The certificate cannot be used.")
	ErrAuthorities = fault.New(fault.Invalid, "certificate_authorities", "The certificates of the CA cannot be used.")
)

const (
	maxFile  = 1 << 20 // bytes; a chain has a few thousand
	interval = time.Second
)

// A Config names the files of a pair, both in PEM and required.
type Config struct {
	Cert string // the certificate, followed by its intermediates
	Key  string // its private key, readable only by its owner
	// Every is the minimum time between two checks of the files, which take place when a client
	// connects. The default is a second.
	Every time.Duration
	Log   *slog.Logger // discards by default
}

// A Pair is a certificate and its private key in two files.
type Pair struct {
	c       Config
	current atomic.Pointer[loaded]

	checking sync.Mutex // held during a check of the files; others do not wait for it
	checked  time.Time
	refused  string // why the last check failed, so that each reason is logged once
}

// loaded is a good pair, and the contents of its files.
type loaded struct {
	tls.Certificate
	cert, key []byte
}

// Load returns the pair in the files. Errors: ErrCertificate.
func Load(c Config) (*Pair, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Every = cmp.Or(c.Every, interval)
	p := &Pair{c: c, checked: time.Now()}
	now, err := p.read()
	if err != nil {
		return nil, err
	}
	p.current.Store(now)
	// An expired certificate is still used: clients that pinned it can connect, and the log tells
	// why others cannot.
	if until := now.Leaf.NotAfter; until.Before(p.checked) {
		c.Log.Warn("the certificate has expired", "file", c.Cert, "expired", until)
	}
	return p, nil
}

// Server returns the TLS configuration of a server. Each connection uses the pair of that time.
func (p *Pair) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate(), nil },
	}
}

// Peer returns the TLS configuration of peers, such as the servers of a cluster: both sides present
// a certificate, and require one of a CA in the pool.
func (p *Pair) Peer(trusted *x509.CertPool) *tls.Config {
	c := p.Server()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.certificate(), nil }
	c.ClientAuth, c.ClientCAs, c.RootCAs = tls.RequireAndVerifyClientCert, trusted, trusted
	return c
}

// Expires returns the expiry time of the certificate.
func (p *Pair) Expires() time.Time { return p.certificate().Leaf.NotAfter }

// certificate returns the current certificate, after a check of the files if one is due.
func (p *Pair) certificate() *tls.Certificate {
	// Files may be slow, so only one connection waits for the check.
	if p.checking.TryLock() {
		defer p.checking.Unlock()
		if now := time.Now(); now.Sub(p.checked) >= p.c.Every {
			p.checked = now
			p.reload()
		}
	}
	return &p.current.Load().Certificate
}

// reload replaces the pair if the files have changed. It compares contents and not modification
// times, which two writes can share.
func (p *Pair) reload() {
	old := p.current.Load()
	now, err := p.read()
	if err == nil && now.Leaf.NotAfter.Before(p.checked) && !bytes.Equal(now.cert, old.cert) {
		err = ErrCertificate.Sayingf("The certificate %s has expired. Replace it with a valid one.",
			p.c.Cert)
	}
	if err != nil {
		if why := fault.From(err).Message; why != p.refused {
			p.refused = why
			p.c.Log.Warn("the certificate was not replaced; the old one stays in use", "file", p.c.Cert, "why", why)
		}
		return
	}
	p.refused = ""
	if bytes.Equal(now.cert, old.cert) && bytes.Equal(now.key, old.key) {
		return
	}
	p.current.Store(now)
	p.c.Log.Info("the certificate was replaced",
		"file", p.c.Cert, "serial", now.Leaf.SerialNumber.Text(16), "expires", now.Leaf.NotAfter)
}

// read reads the files and checks that they form a pair.
func (p *Pair) read() (*loaded, error) {
	fail := func(cause error, format string, args ...any) error {
		return ErrCertificate.Sayingf(format, args...).Because(cause)
	}
	cert, err := readFile(p.c.Cert)
	if err != nil {
		return nil, fail(err, cannotRead, "certificate", p.c.Cert, fault.Reason(err))
	}
	key, err := secretfile.Read(p.c.Key, maxFile)
	if open, ok := errors.AsType[*secretfile.TooOpenError](err); ok {
		return nil, fail(err, "%s", open.Sentence("The private key"))
	}
	if err != nil {
		return nil, fail(err, cannotRead, "private key", p.c.Key, fault.Reason(err))
	}
	if all, err := certificates(cert); err != nil {
		return nil, fail(err, "The certificate %s cannot be used: %s. It must contain complete certificates in PEM.",
			p.c.Cert, err)
	} else if all == nil {
		return nil, fail(nil, "The file %s contains no certificate in PEM.", p.c.Cert)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil,
			fail(err,
				"The certificate %s and the private key %s do not match, or the key is not in PEM. Replace them with a pair.",
				p.c.Cert, p.c.Key)
	}
	return &loaded{pair, cert, key}, nil
}

// cannotRead takes the kind of file, its name and the reason.
const cannotRead = "The %s %s cannot be read: %s. Make the file readable for this user, or choose another one."

// Authorities returns the CAs in a file of PEM certificates. Errors: ErrAuthorities.
func Authorities(file string) (*x509.CertPool, error) {
	fail := func(cause error, why string) error {
		return ErrAuthorities.Sayingf(
			"The CA in %s cannot be used: %s. Provide its certificate in PEM, or choose another file.", file,
			why).Because(cause)
	}
	text, err := readFile(file)
	if err != nil {
		return nil, fail(err, fault.Reason(err))
	}
	all, err := certificates(text)
	if err != nil {
		return nil, fail(err, err.Error())
	}
	if all == nil {
		return nil, fail(nil, "it contains no certificate")
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

// certificates parses all certificates in text. It fails if the last one is truncated, because half
// a chain would otherwise pass as a shorter one.
func certificates(text []byte) (all []*x509.Certificate, err error) {
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		begun--
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("one of its certificates is invalid")
		}
		all = append(all, c)
	}
	if begun != 0 {
		return nil, errors.New("it is truncated")
	}
	return all, nil
}

// readFile returns the contents of a public file.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // opening a pipe waits for a writer
		return nil, errors.New("not a regular file")
	case info.Size() > maxFile:
		return nil, secretfile.ErrTooLong
	}
	return os.ReadFile(path)
}
