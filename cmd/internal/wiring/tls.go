package wiring

import (
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/fault"
)

// errHalfPair means that a certificate or its private key is missing.
var errHalfPair = fault.New(fault.Invalid, "certificate_pair",
	"A certificate needs its private key, and a private key its certificate.")

// A Certificate is the TLS certificate of a listener, with the flags that name its files. Without
// files there is no TLS.
type Certificate struct {
	CertFlag, Cert string
	KeyFlag, Key   string

	pair *certfile.Pair
}

// HTTPCertificate returns the certificate of the flags --tls-cert and --tls-key.
func HTTPCertificate(cert, key string) Certificate {
	return Certificate{CertFlag: "--tls-cert", Cert: cert, KeyFlag: "--tls-key", Key: key}
}

// NATSCertificate returns the certificate of the flags --nats-tls-cert and --nats-tls-key.
func NATSCertificate(cert, key string) Certificate {
	return Certificate{CertFlag: "--nats-tls-cert", Cert: cert, KeyFlag: "--nats-tls-key", Key: key}
}

// Load reads the files, if any. Errors of kind fault.Invalid name the flag or the file.
func (c *Certificate) Load(log *slog.Logger) (err error) {
	switch {
	case c.Cert == "" && c.Key == "":
		return nil
	case c.Key == "":
		return errHalfPair.Sayingf("%s needs %s: name the file with the certificate's private key.",
			c.CertFlag, c.KeyFlag)
	case c.Cert == "":
		return errHalfPair.Sayingf("%s needs %s: name the file with the certificate.", c.KeyFlag,
			c.CertFlag)
	}
	c.pair, err = certfile.Load(certfile.Config{Cert: c.Cert, Key: c.Key, Log: log})
	return err
}

// Server returns the TLS configuration of a server, or nil without a certificate.
func (c Certificate) Server() *tls.Config {
	if c.pair == nil {
		return nil
	}
	return c.pair.Server()
}

// HTTP returns the listeners, with TLS and HTTP/2 if there is a certificate.
func (c Certificate) HTTP(listeners []net.Listener) []net.Listener {
	if c.pair == nil {
		return listeners
	}
	config := c.pair.Server()
	config.NextProtos = []string{"h2", "http/1.1"}
	encrypted := make([]net.Listener, len(listeners))
	for i, ln := range listeners {
		encrypted[i] = https{tls.NewListener(ln, config)}
	}
	return encrypted
}

// https marks a listener whose URLs begin with https.
type https struct{ net.Listener }

// Watch exports the expiry time of a certificate as a metric. listener is the value of its label.
func (b *Base) Watch(listener string, c Certificate) {
	if c.pair == nil {
		return
	}
	b.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pillion_certificate_expiry_timestamp_seconds", Help: "Expiry time of the listener's certificate.",
		ConstLabels: prometheus.Labels{"listener": listener},
	}, func() float64 { return float64(c.pair.Expires().Unix()) }))
}
