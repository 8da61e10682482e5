// Package certfile reads certificates for TLS from files, and reads them again when they change, so that replacing one needs no restart.
//
// Call [Load] for what a listener shows, and [Authorities] for whom a client trusts. Nothing below TLS 1.3 is spoken.
//
// A pair that cannot be used, because only one half of it has been replaced so far, say, never takes the place of one that can: the old one is
// shown until the new one is complete. Whoever replaces files should still rename the new one into place.
package certfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// What can be wrong with files. Each carries a sentence that names the file and the remedy.
var (
	ErrCertificate = fault.New(fault.Invalid, "certificate", "The certificate cannot be used.")
	ErrAuthorities = fault.New(fault.Invalid, "certificate_authorities", "The certificates of the CA cannot be used.")
)

const (
	maxFile = 1 << 20 // bytes; a chain is a few thousand
	pause   = time.Second
)

// Config says where a pair is. Both files are required, in PEM.
type Config struct {
	Cert string // the certificate, and after it those between it and the CA
	Key  string // its private key, readable by nobody but its owner
	// Every is how often the files are looked at, at most; they are when somebody connects. Zero: once a second.
	Every time.Duration
	Log   *slog.Logger
}

// A Pair is a certificate and its private key in two files.
type Pair struct {
	c       Config
	current atomic.Pointer[shown]

	looking sync.Mutex // held by whoever looks at the files; nobody waits for it
	looked  time.Time
	refused string // why the files were not taken when they were last looked at, so that it is told once
}

// shown is a pair that can be used, and what was read of it.
type shown struct {
	tls.Certificate
	cert, key []byte
}

// Load returns the pair that is in the files now. Errors are ErrCertificate.
func Load(c Config) (*Pair, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Every == 0 {
		c.Every = pause
	}
	p := &Pair{c: c, looked: time.Now()}
	now, err := p.read()
	if err != nil {
		return nil, err
	}
	p.current.Store(now)
	if until := now.Leaf.NotAfter; until.Before(p.looked) { // whoever pinned it can still connect, and the operator learns why others cannot
		c.Log.Warn("the certificate has expired", "file", c.Cert, "expired", until)
	}
	return p, nil
}

// Server returns how a listener meets its clients: with the pair as it is then, and TLS 1.3.
func (p *Pair) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate(), nil },
	}
}

// Peer returns how equals meet, such as the servers of a cluster: each shows the pair, and must be shown a certificate of a CA in the pool.
func (p *Pair) Peer(trusted *x509.CertPool) *tls.Config {
	c := p.Server()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.certificate(), nil }
	c.ClientAuth, c.ClientCAs, c.RootCAs = tls.RequireAndVerifyClientCert, trusted, trusted
	return c
}

// Expires returns until when the certificate is good.
func (p *Pair) Expires() time.Time { return p.certificate().Leaf.NotAfter }

// certificate returns what is to be shown, after a look at the files where that is due.
func (p *Pair) certificate() *tls.Certificate {
	// Files may be slow: only one connection is held up by them.
	if p.looking.TryLock() {
		defer p.looking.Unlock()
		if now := time.Now(); now.Sub(p.looked) >= p.c.Every {
			p.looked = now
			p.look()
		}
	}
	return &p.current.Load().Certificate
}

// look takes over what is in the files. It compares contents and not times: they are small, and two writes may bear one time.
func (p *Pair) look() {
	old := p.current.Load()
	now, err := p.read()
	if err == nil && now.Leaf.NotAfter.Before(p.looked) && !bytes.Equal(now.cert, old.cert) {
		err = ErrCertificate.Saying(fmt.Sprintf("The certificate %s has expired. Put one there that has not.", p.c.Cert))
	}
	if err != nil {
		if why := fault.From(err).Message; why != p.refused {
			p.refused = why
			p.c.Log.Warn("the certificate was not replaced; the one before it stays in use", "file", p.c.Cert, "why", why)
		}
		return
	}
	p.refused = ""
	if bytes.Equal(now.cert, old.cert) && bytes.Equal(now.key, old.key) {
		return
	}
	p.current.Store(now)
	p.c.Log.Info("the certificate was replaced", "file", p.c.Cert, "serial", now.Leaf.SerialNumber.Text(16), "expires", now.Leaf.NotAfter)
}

// read returns what is in the files, where they belong together.
func (p *Pair) read() (*shown, error) {
	say := func(cause error, format string, args ...any) error {
		return ErrCertificate.Saying(fmt.Sprintf(format, args...)).Because(cause)
	}
	cert, err := readFile(p.c.Cert)
	if err != nil {
		return nil, say(err, "The certificate %s cannot be read: %s. Put it there, readable by this user, or name another file.", p.c.Cert, why(err))
	}
	key, err := secretfile.Read(p.c.Key, maxFile)
	var open *secretfile.TooOpenError
	switch {
	case errors.As(err, &open):
		return nil, say(err, "The private key %s is open to others than its owner (mode %04o). Close it with: chmod 600 %[1]s", p.c.Key, open.Mode)
	case err != nil:
		return nil, say(err, "The private key %s cannot be read: %s. Put it there, readable by this user, or name another file.", p.c.Key, why(err))
	}
	if n, err := certificates(cert); err != nil {
		return nil, say(err, "The certificate %s cannot be used: %s. It must hold certificates in PEM, and be complete.", p.c.Cert, err)
	} else if n == nil {
		return nil, say(nil, "The certificate %s holds none. It must be in PEM.", p.c.Cert)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, say(err, "The certificate %s and the private key %s do not belong together, or the key is not in PEM. Put a pair there.", p.c.Cert, p.c.Key)
	}
	return &shown{pair, cert, key}, nil
}

// Authorities returns the CAs in a file of certificates in PEM. Errors are ErrAuthorities.
func Authorities(file string) (*x509.CertPool, error) {
	say := func(cause error, why string) error {
		return ErrAuthorities.Saying(fmt.Sprintf("The CA in %s cannot be used: %s. Put its certificate there, in PEM, or name another file.", file, why)).Because(cause)
	}
	text, err := readFile(file)
	if err != nil {
		return nil, say(err, why(err))
	}
	all, err := certificates(text)
	if err != nil {
		return nil, say(err, err.Error())
	}
	if all == nil {
		return nil, say(nil, "it holds no certificate")
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

// certificates returns all that are in text, and fails where one is broken off: a chain that is half written would pass as a shorter one.
func certificates(text []byte) (all []*x509.Certificate, err error) {
	begun := bytes.Count(text, []byte("-----BEGIN "))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		begun--
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("one of its certificates is none")
		}
		all = append(all, c)
	}
	if begun != 0 {
		return nil, errors.New("it is broken off")
	}
	return all, nil
}

// readFile returns what is in a file that is no secret.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // to open a pipe would be to wait for a writer
		return nil, errors.New("it is not a regular file")
	case info.Size() > maxFile:
		return nil, secretfile.ErrTooLong
	}
	return os.ReadFile(path)
}

// why takes of an error about a file what does not name it again.
func why(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
