package commands

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// makeCerts creates certificates for trying TLS, as an operator does, and returns their folder.
func makeCerts(t *testing.T, more ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	if status, _, stderr := proctest.Finish(t, "pillion", append([]string{"certs", "init", "--certs=" + dir},
		more...)...); status != 0 {
		t.Fatalf("certs init: %d %s", status, stderr)
	}
	return dir
}

func httpTLS(certs, who string) []string {
	return []string{"--tls-cert=" + filepath.Join(certs, who+".crt"), "--tls-key=" + filepath.Join(certs, who+".key")}
}

func natsTLS(certs string) []string {
	return []string{"--nats-tls-cert=" + filepath.Join(certs, "nats.crt"), "--nats-tls-key=" +
		filepath.Join(certs, "nats.key")}
}

// trusting returns a client's TLS configuration for our certificates.
func trusting(t *testing.T, certs string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(certs, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("ca.crt holds no certificate")
	}
	return &tls.Config{RootCAs: pool}
}

// trust returns a client's options for the NATS of a process, with or without TLS.
func serverTrust(t *testing.T, p *proctest.Program, certs string) nats.Option {
	t.Helper()
	c := trusting(t, certs)
	return func(o *nats.Options) error {
		o.TLSConfig, o.Secure = c, strings.HasPrefix(p.At["nats"], "tls://")
		return nil
	}
}

func dialHTTPS(t *testing.T, url string, c *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// asks makes one request on a connection, which stays open.
func asks(t *testing.T, conn net.Conn, path string) (status int, header http.Header) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: pillion\r\n\r\n", path); err != nil {
		t.Fatalf("the connection is closed: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header
}

// TestEncrypted runs all of Pillion with certificates: versions of TLS, clients that are refused,
// other services, and the renewal of certificates while it runs.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	certs, data := makeCerts(t), t.TempDir()
	p := proctest.Pillion(t, data, append(httpTLS(certs, "pillion"), natsTLS(certs)...)...)
	ours := trusting(t, certs)
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		if !strings.HasPrefix(p.At[service], "https://") {
			t.Fatalf("%s is at %s", service, p.At[service])
		}
		conn := dialHTTPS(t, p.At[service], ours)
		status, header := asks(t, conn, "/nothing")
		if got := header.Get("Strict-Transport-Security"); status != http.StatusNotFound || got != "max-age=31536000" {
			t.Errorf("%s answers %d, HSTS %q", service, status, got)
		}
		old := ours.Clone()
		old.MaxVersion = tls.VersionTLS12
		if conn, err := tls.Dial("tcp", strings.TrimPrefix(p.At[service], "https://"), old); err == nil {
			_ = conn.Close()
			t.Errorf("%s speaks TLS 1.2", service)
		}
		if status, body := proctest.Get(t, strings.Replace(p.At[service], "https://", "http://",
			1)+"/nothing"); status != http.StatusBadRequest || !strings.Contains(body, "HTTPS server") {
			t.Errorf("%s without TLS: %d %s", service, status, body)
		}
	}
	// The ops address stays unencrypted.
	if status, _, stderr := proctest.Finish(t, "pillion", "health",
		"--ops-addr="+strings.TrimPrefix(p.At["ops"], "http://")); status != 0 {
		t.Errorf("health: %d %s", status, stderr)
	}
	if _, metrics := proctest.Get(t, p.At["ops"]+"/metrics"); strings.Count(metrics,
		"\npillion_certificate_expiry_timestamp_seconds{") != 2 {
		t.Error("the metrics do not say until when the certificates are good")
	}

	// A separate usersvc uses encrypted NATS, and its own certificate for HTTP.
	user := proctest.Start(t, "usersvc", append(append(p.NATS(data, "usersvc"), httpTLS(certs, "usersvc")...),
		"--nats-ca="+filepath.Join(certs, "ca.crt"), "--user-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0")...)
	user.Ready(t)
	if name := dialHTTPS(t, user.At["usersvc"],
		ours).ConnectionState().PeerCertificates[0].Subject.CommonName; name != "usersvc" {
		t.Errorf("usersvc shows the certificate of %s", name)
	}

	// An operator with another CA gets an error that names the cause.
	other := makeCerts(t)
	status, _, stderr := proctest.Finish(t, "pillion", append([]string{"bookings", "list", "--timeout=2s",
		"--nats-ca=" + filepath.Join(other, "ca.crt")}, p.NATS(data, "operator")...)...)
	if status != 1 ||
		!strings.Contains(stderr,
			"The NATS server's certificate cannot be trusted. See that --nats-ca is the CA that signed it") {
		t.Errorf("another CA: %d %s", status, stderr)
	}
	if status, _, stderr := proctest.Finish(t, "pillion", append([]string{"bookings", "list", "--nats-ca=" +
		filepath.Join(certs, "ca.crt")}, p.NATS(data, "operator")...)...); status != 0 {
		t.Errorf("an operator: %d %s", status, stderr)
	}

	rotate(t, p, certs, data)
}

// rotate renews the certificates and checks old and new connections.
func rotate(t *testing.T, p *proctest.Program, certs, data string) {
	t.Helper()
	ours := trusting(t, certs)
	serial := func(c tls.ConnectionState) string { return c.PeerCertificates[0].SerialNumber.String() }
	early := dialHTTPS(t, p.At["authsvc"], ours)
	operator, err := nats.NkeyOptionFromSeed(filepath.Join(data, "services", "operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	connect := func() (*nats.Conn, string) {
		t.Helper()
		nc, err := nats.Connect(p.At["nats"], nats.Secure(ours), operator, nats.Timeout(30*time.Second),
			nats.NoReconnect())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		state, err := nc.TLSConnectionState()
		if err != nil {
			t.Fatal(err)
		}
		return nc, serial(state)
	}
	earlyNATS, before := connect()
	if status, _, stderr := proctest.Finish(t, "pillion", "certs", "init", "--certs="+certs, "--renew"); status != 0 {
		t.Fatalf("renew: %d %s", status, stderr)
	}
	wait.Until(t, "HTTPS shows the new certificate", func() bool {
		conn := dialHTTPS(t, p.At["authsvc"], ours)
		defer conn.Close()
		return serial(conn.ConnectionState()) != serial(early.ConnectionState())
	})
	wait.Until(t, "NATS shows the new certificate", func() bool {
		nc, now := connect()
		defer nc.Close()
		return now != before
	})
	if status, _ := asks(t, early, "/public-key"); status != http.StatusOK {
		t.Errorf("the connection from before is answered %d", status)
	}
	if err := earlyNATS.FlushTimeout(30 * time.Second); err != nil {
		t.Errorf("the connection to NATS from before: %v", err)
	}
}

// TestCertsInit creates some certificates, apart and with additional hosts. A second call changes
// none of them.
func TestCertsInit(t *testing.T) {
	t.Parallel()
	public, apart := filepath.Join(t.TempDir(), "public"), t.TempDir()
	args := []string{"certs", "init", "--certs=" + public, "--apart=" + apart, "--for=nats, usersvc",
		"--hosts=bus.example, 192.0.2.7"}
	status, said, stderr := proctest.Finish(t, "pillion", args...)
	if status != 0 || !strings.Contains(said, "ca, nats, usersvc.") {
		t.Fatalf("%d %s%s", status, said, stderr)
	}
	if status, said, _ := proctest.Finish(t, "pillion", args...); status != 0 ||
		!strings.Contains(said, "exist already") {
		t.Errorf("again: %d %s", status, said)
	}
	if status, _, stderr := proctest.Finish(t, "pillion", append(args, "--for=mallory")...); status != 2 ||
		!strings.Contains(stderr, "There are certificates for nats, authsvc,") {
		t.Errorf("for an unknown name: %d %s", status, stderr)
	}
	for dir, want := range map[string]string{public: "ca.crt", filepath.Join(apart, "ca"): "ca.crt ca.key",
		filepath.Join(apart, "nats"): "ca.crt nats.crt nats.key"} {
		var names []string
		files, err := os.ReadDir(dir)
		for _, f := range files {
			names = append(names, f.Name())
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s has %s, want %s (%v)", dir, got, want, err)
		}
	}
	pool := trusting(t, public).RootCAs
	for name, hosts := range map[string][]string{
		"nats":    {"localhost", "127.0.0.1", "::1", "nats", "nats-1", "nats-3", "bus.example", "192.0.2.7"},
		"usersvc": {"localhost", "usersvc", "usersvc-1", "usersvc-2", "bus.example"},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(apart, name, name+".crt"),
			filepath.Join(apart, name, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host}); err != nil {
				t.Errorf("%s, %s: %v", name, host, err)
			}
		}
	}
}
