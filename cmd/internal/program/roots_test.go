package program

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// TestPublicCAs checks that a program trusts the public CAs where the system has none, as in an
// image that is made from scratch. A process reads the system's CAs once, so the check runs in
// another one.
func TestPublicCAs(t *testing.T) {
	const nowhere = "/nowhere"
	if os.Getenv("SSL_CERT_FILE") != nowhere {
		check := exec.Command(os.Args[0], "-test.run=^TestPublicCAs$")
		check.Env = append(os.Environ(), "SSL_CERT_FILE="+nowhere, "SSL_CERT_DIR="+nowhere)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	trusted, err := x509.SystemCertPool()
	if err != nil || trusted.Equal(x509.NewCertPool()) {
		t.Errorf("without CAs of the system the program trusts none (%v)", err)
	}
}
