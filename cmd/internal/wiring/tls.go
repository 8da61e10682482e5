package wiring

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/fault"
)

// errHalfPair is one file where there must be two.
var errHalfPair = fault.New(fault.Invalid, "certificate_pair", "A certificate and its private key come together.")

// A Certificate is what a program shows at one of its doors, with the flags that name it. Its zero value, and one without files, is none.
type Certificate struct {
	CertFlag, Cert string
	KeyFlag, Key   string

	pair *certfile.Pair
}

// HTTPCertificate is that of the flags --tls-cert and --tls-key.
func HTTPCertificate(cert, key string) Certificate {
	return Certificate{CertFlag: "--tls-cert", Cert: cert, KeyFlag: "--tls-key", Key: key}
}

// NATSCertificate is that of the flags --nats-tls-cert and --nats-tls-key.
func NATSCertificate(cert, key string) Certificate {
	return Certificate{CertFlag: "--nats-tls-cert", Cert: cert, KeyFlag: "--nats-tls-key", Key: key}
}

// Load reads the files, where they are named.
func (c *Certificate) Load(log *slog.Logger) (err error) {
	switch {
	case c.Cert == "" && c.Key == "":
		return nil
	case c.Key == "":
		return errHalfPair.Saying(fmt.Sprintf("%s needs %s: name the file with the certificate's private key.", c.CertFlag, c.KeyFlag))
	case c.Cert == "":
		return errHalfPair.Saying(fmt.Sprintf("%s needs %s: name the file with the certificate.", c.KeyFlag, c.CertFlag))
	}
	c.pair, err = certfile.Load(certfile.Config{Cert: c.Cert, Key: c.Key, Log: log})
	return err
}

// Server returns how clients are met, or nil where there is no certificate.
func (c Certificate) Server() *tls.Config {
	if c.pair == nil {
		return nil
	}
	return c.pair.Server()
}

// HTTP returns the listeners as HTTP is served on them: encrypted, where there is a certificate.
func (c Certificate) HTTP(listeners []net.Listener) []net.Listener {
	if c.pair == nil {
		return listeners
	}
	config := c.pair.Server()
	config.NextProtos = []string{"http/1.1"} // for which package web's limits are made and tried
	encrypted := make([]net.Listener, len(listeners))
	for i, ln := range listeners {
		encrypted[i] = https{tls.NewListener(ln, config)}
	}
	return encrypted
}

// https is a listener whose URLs begin with it.
type https struct{ net.Listener }

// Watch lets the metrics tell until when the certificates of doors are good. Door is the value of the label.
func (b *Base) Watch(door string, c Certificate) {
	if c.pair == nil {
		return
	}
	b.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pillion_certificate_expiry_timestamp_seconds", Help: "Until when the certificate is good that is shown there.", ConstLabels: prometheus.Labels{"listener": door},
	}, func() float64 { return float64(c.pair.Expires().Unix()) }))
}
