package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/fault"
)

// What keeps a connection from being encrypted. They are of kind fault.Unavailable, because a certificate or a CA that is put right is
// found at the next try.
var (
	ErrNotTrusted = fault.New(fault.Unavailable, "nats_not_trusted",
		"The NATS server's certificate cannot be trusted. See that --nats-ca is the CA that signed it, and that it is for the host in --nats-url.").After(2 * time.Second)
	ErrNotEncrypted = fault.New(fault.Unavailable, "nats_not_encrypted",
		"The NATS server offers no encryption, and --nats-ca, or tls:// in --nats-url, asks for it.").After(2 * time.Second)
)

// encryption returns the options by which a connection is encrypted: in TLS 1.3 wherever the server has it, and always where a file with CAs
// is named, which is read again at each connect.
func encryption(ca string) []nats.Option {
	opts := []nats.Option{func(o *nats.Options) error {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13}
		return nil
	}}
	if ca != "" {
		opts = append(opts, nats.ClientTLSConfig(nil, func() (*x509.CertPool, error) { return certfile.Authorities(ca) }))
	}
	return opts
}

// warnIfReadable tells the operator of a connection that others can read. A connection is encrypted where its server demands it, or where this side does, by
// naming CAs or in the URL. (The client cannot be asked for its TLS state while it is being closed: nats.go 1.55 reads its own without a lock.)
func warnIfReadable(log *slog.Logger, nc *nats.Conn, demanded bool) {
	if readable(nc.ConnectedAddr(), demanded || nc.TLSRequired() || strings.HasPrefix(nc.ConnectedUrl(), "tls://")) {
		log.Warn("the connection to NATS leaves this machine and is not encrypted: tokens can be read on the way", "url", nc.ConnectedUrlRedacted())
	}
}

// readable reports whether somebody between here and an address can read what is sent there. The address is "" when the connection is gone.
func readable(addr string, encrypted bool) bool {
	to, err := netip.ParseAddrPort(addr)
	return err == nil && !encrypted && !to.Addr().IsLoopback()
}

// untrusted returns the fault where err is about encryption, and nil elsewhere.
func untrusted(err error) *fault.Error {
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &verification):
		return ErrNotTrusted
	case errors.Is(err, nats.ErrSecureConnWanted):
		return ErrNotEncrypted
	}
	return nil
}
