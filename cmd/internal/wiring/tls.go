package wiring

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"time"

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
	if c.pair != nil {
		b.Registry.MustRegister(certificateExpiry{listener, func() (time.Time, bool) { return c.pair.Expires(), true }})
	}
}

// watchNATS exports until when the certificate of the NATS server is trusted that the process is
// connected to: until it, or a CA above it, expires.
func (b *Base) watchNATS() {
	b.Registry.MustRegister(certificateExpiry{"nats", func() (expires time.Time, encrypted bool) {
		state, err := b.Conn.NATS().TLSConnectionState()
		if err != nil || len(state.VerifiedChains) == 0 {
			return time.Time{}, false
		}
		first := slices.MinFunc(state.VerifiedChains[0], func(a, b *x509.Certificate) int {
			return a.NotAfter.Compare(b.NotAfter)
		})
		return first.NotAfter, true
	}})
}

// A certificateExpiry is the expiry time of a listener's certificate as a metric, if there is one.
type certificateExpiry struct {
	listener string
	expires  func() (time.Time, bool)
}

// Describe implements prometheus.Collector.
func (c certificateExpiry) Describe(to chan<- *prometheus.Desc) { to <- c.desc() }

// Collect implements prometheus.Collector.
func (c certificateExpiry) Collect(to chan<- prometheus.Metric) {
	if at, is := c.expires(); is {
		to <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(at.Unix()))
	}
}

func (c certificateExpiry) desc() *prometheus.Desc {
	return prometheus.NewDesc("pillion_certificate_expiry_timestamp_seconds",
		"Expiry time of the listener's certificate.", nil, prometheus.Labels{"listener": c.listener})
}
