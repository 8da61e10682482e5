package certfile_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/trialca"
	"github.com/example/pillion/internal/wait"
)

// issue creates or renews a CA and the certificate "door" in dir.
func issue(t *testing.T, dir string, renew bool, at time.Time) {
	t.Helper()
	_, err := trialca.Make(trialca.Config{
		Folder: func(string) string { return dir }, Renew: renew, Now: func() time.Time { return at },
		Holders: []trialca.Holder{{Name: "door", Hosts: []string{"127.0.0.1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// echo starts a TLS server that returns all that it receives, and returns its address.
func echo(t *testing.T, p *certfile.Pair) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", p.Server())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until the client closes the connection
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr, ca string) *tls.Conn {
	t.Helper()
	pool, err := certfile.Authorities(ca)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// shown returns the serial number of the certificate on a new connection.
func shown(t *testing.T, addr, ca string) string {
	t.Helper()
	conn := dial(t, addr, ca)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func says(t *testing.T, conn net.Conn, word string) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	got := make([]byte, len(word))
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatalf("the older connection is closed: %v", err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != word {
		t.Fatalf("the older connection answers %q, %v", got, err)
	}
}

// TestReload replaces a pair: new connections see the new pair once it is complete, and older
// connections stay open.
func TestReload(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	issue(t, dir, false, time.Now())
	ca, cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "door.crt"), filepath.Join(dir, "door.key")
	var log wait.Journal
	pair, err := certfile.Load(certfile.Config{Cert: cert, Key: key, Every: 1,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	addr := echo(t, pair)
	first := shown(t, addr, ca)
	early := dial(t, addr, ca)
	says(t, early, "hello")

	// Create the next pair of the same CA in another folder, and copy one file after the other.
	for _, name := range []string{"ca.crt", "ca.key", "door.crt", "door.key"} {
		copyFile(t, filepath.Join(dir, name), filepath.Join(next, name))
	}
	issue(t, next, true, time.Now())
	newCert, newKey := read(t, filepath.Join(next, "door.crt")), read(t, filepath.Join(next, "door.key"))

	put(t, key, newKey)
	for range 3 {
		if got := shown(t, addr, ca); got != first {
			t.Errorf("with only the new key: certificate %s, want the old one, %s", got, first)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings of half a pair, want 1", n)
	}
	put(t, cert, newCert[:len(newCert)/2])
	if got := shown(t, addr, ca); got != first {
		t.Errorf("with half a certificate: certificate %s, want the old one", got)
	}
	put(t, cert, newCert)
	second := shown(t, addr, ca)
	if second == first {
		t.Error("the old certificate is still in use after the new pair is complete")
	}
	says(t, early, "still here")
	if n := strings.Count(log.String(), "the certificate was replaced"); n != 1 {
		t.Errorf("%d log lines about the replacement, want 1", n)
	}

	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, addr, ca); got != second {
		t.Error("the certificate is not in use any more after its file was removed")
	}
	// An expired pair must not replace a valid one.
	issue(t, next, true, time.Now().Add(-2*trialca.LeafLife))
	put(t, key, read(t, filepath.Join(next, "door.key")))
	put(t, cert, read(t, filepath.Join(next, "door.crt")))
	if got := shown(t, addr, ca); got != second {
		t.Error("an expired certificate has replaced a valid one")
	}
	if strings.Count(log.String(), "has expired") == 0 {
		t.Error("the log does not tell that the new certificate has expired")
	}
}

// TestChecksFilesAtAnInterval replaces the files before the next check is due: the old certificate
// stays in use.
func TestChecksFilesAtAnInterval(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, false, time.Now())
	pair, err := certfile.Load(certfile.Config{Cert: filepath.Join(dir, "door.crt"),
		Key: filepath.Join(dir, "door.key"), Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	addr, ca := echo(t, pair), filepath.Join(dir, "ca.crt")
	first := shown(t, addr, ca)
	issue(t, dir, true, time.Now())
	if got := shown(t, addr, ca); got != first {
		t.Error("the files were read again within the interval")
	}
}

// TestOnlyTLS13 connects with TLS 1.3, and fails to connect with TLS 1.2.
func TestOnlyTLS13(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, false, time.Now())
	pair, err := certfile.Load(certfile.Config{Cert: filepath.Join(dir, "door.crt"),
		Key: filepath.Join(dir, "door.key")})
	if err != nil {
		t.Fatal(err)
	}
	addr, ca := echo(t, pair), filepath.Join(dir, "ca.crt")
	if got := dial(t, addr, ca).ConnectionState().Version; got != tls.VersionTLS13 {
		t.Errorf("version %s, want TLS 1.3", tls.VersionName(got))
	}
	pool, err := certfile.Authorities(ca)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12})
	if err == nil {
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("connecting with TLS 1.2: %v", err)
	}
	if until := time.Until(pair.Expires()); until > trialca.LeafLife || until < trialca.LeafLife-time.Hour {
		t.Errorf("the certificate expires in %v", until)
	}
}

// TestRefused loads bad files: the message must name the file.
func TestRefused(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	issue(t, dir, false, time.Now())
	issue(t, other, false, time.Now())
	cert, key := filepath.Join(dir, "door.crt"), filepath.Join(dir, "door.key")
	file := func(name string, text []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		put(t, path, text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open, noise, empty := file("open.key", read(t, key), 0o640), file("noise", []byte("no PEM\n"), 0o600),
		file("empty", nil, 0o600)
	chain := slices.Concat(read(t, cert), read(t, filepath.Join(dir, "ca.crt")))
	torn := file("torn.crt", chain[:len(chain)-40], 0o600)
	for _, c := range []struct{ what, cert, key, want string }{
		{"no certificate", filepath.Join(dir, "none.crt"), key, "none.crt cannot be read: no such file or directory"},
		{"no key", cert, filepath.Join(dir, "none.key"), "none.key cannot be read: there is no such file"},
		{"a folder", dir, key, "cannot be read: not a regular file"},
		{"an open key", cert, open, "chmod 600 " + open},
		{"noise", noise, key, "noise contains no certificate in PEM."},
		{"nothing", empty, key, "empty contains no certificate"},
		{"a truncated chain", torn, key, "torn.crt cannot be used: it is truncated"},
		{"the key of another certificate", cert, filepath.Join(other, "door.key"), "do not match"},
		{"the files the wrong way round", key, cert, "is open to other users"},
		{"no key in it", cert, noise, "do not match, or the key is not in PEM"},
	} {
		_, err := certfile.Load(certfile.Config{Cert: c.cert, Key: c.key})
		if !errors.Is(err, certfile.ErrCertificate) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	for what, path := range map[string]string{
		"does not exist": filepath.Join(dir, "none"), "is noise": noise, "is empty": empty, "is a folder": dir,
		"is a key":     key,
		"is truncated": torn,
	} {
		if _, err := certfile.Authorities(path); !errors.Is(err, certfile.ErrAuthorities) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("a CA that %s: %v", what, err)
		}
	}
	// A chain is accepted, and so is an expired certificate, which clients may have pinned.
	whole := file("whole.crt", chain, 0o600)
	if _, err := certfile.Load(certfile.Config{Cert: whole, Key: key}); err != nil {
		t.Errorf("a chain: %v", err)
	}
	issue(t, other, true, time.Now().Add(-2*trialca.LeafLife))
	var log wait.Journal
	if _, err := certfile.Load(certfile.Config{
		Cert: filepath.Join(other, "door.crt"), Key: filepath.Join(other, "door.key"),
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	}); err != nil || strings.Count(log.String(), "has expired") != 1 {
		t.Errorf("an expired certificate: %v, with %d warnings", err, strings.Count(log.String(), "has expired"))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// put overwrites a file in place, not atomically.
func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	put(t, to, read(t, from))
}
