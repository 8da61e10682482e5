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

// Errors of encryption. They are of kind fault.Unavailable, because the next try finds a corrected
// certificate or CA.
var (
	ErrNotTrusted = fault.New(fault.Unavailable, "nats_not_trusted",
		"The NATS server's certificate cannot be trusted. See that --nats-ca is the CA that signed it, and that "+
			"it is for the host in --nats-url.").After(2 * time.Second)
	ErrNotEncrypted = fault.New(fault.Unavailable, "nats_not_encrypted",
		"The NATS server offers no encryption, and --nats-ca, or tls:// in --nats-url, asks for it.").
		After(2 * time.Second)
)

// encryption returns the options of TLS 1.3. With a file of CAs, which is read at each connect, the
// connection is always encrypted; without one, where the server or the URL asks for it.
func encryption(ca string) []nats.Option {
	opts := []nats.Option{func(o *nats.Options) error {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13}
		return nil
	}}
	if ca != "" {
		opts = append(opts, nats.ClientTLSConfig(nil, func() (*x509.CertPool,
			error) {
			return certfile.Authorities(ca)
		}))
	}
	return opts
}

// warnIfReadable warns operators of a connection that others can read. demanded says that this side
// demands encryption by naming CAs. (The client's own TLS state cannot be asked for while it is
// being closed: nats.go 1.55 reads it without a lock.)
func warnIfReadable(log *slog.Logger, nc *nats.Conn, demanded bool) {
	if readable(nc.ConnectedAddr(), demanded || nc.TLSRequired() || strings.HasPrefix(nc.ConnectedUrl(), "tls://")) {
		log.Warn("the connection to NATS leaves this machine unencrypted: others can read tokens on the way", "url",
			nc.ConnectedUrlRedacted())
	}
}

// readable reports whether others on the way to an address can read what is sent there. The address
// is "" without a connection.
func readable(addr string, encrypted bool) bool {
	to, err := netip.ParseAddrPort(addr)
	return err == nil && !encrypted && !to.Addr().IsLoopback()
}

// untrusted returns the fault where err is about encryption, and nil otherwise.
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
