package bus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/trialca"
	"github.com/example/pillion/internal/wait"
)

// certificates makes a CA with a certificate for a server on host, and returns the folder.
func certificates(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := trialca.Make(trialca.Config{
		Folder: func(string) string { return dir }, Holders: []trialca.Holder{{Name: "nats", Hosts: []string{host}}},
	}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// becomes waits until the connection is ready, or not ready for the wanted reason.
func becomes(t *testing.T, what string, conn *bus.Conn, want error) {
	t.Helper()
	deadline := time.After(wait.Patience)
	for {
		err := conn.Ready(t.Context())
		if errors.Is(err, want) {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s: %v, want %v", what, err, want)
		}
	}
}

// A client trusts the CA in its settings, and explains why it cannot trust a server.
func TestTrust(t *testing.T) {
	t.Parallel()
	certs, others, elsewhere := certificates(t, "127.0.0.1"), certificates(t, "127.0.0.1"),
		certificates(t, "nats.example")
	ca := func(dir string) string { return filepath.Join(dir, "ca.crt") }
	secure, wrongHost, plain := bustest.Serve(t, "127.0.0.1:0", certs), bustest.Serve(t, "127.0.0.1:0", elsewhere),
		bustest.Serve(t, "127.0.0.1:0", "")
	for _, s := range []*embedded.Server{secure, wrongHost, plain} {
		t.Cleanup(func() { bustest.StopServer(t, s) })
	}
	asNATS := func(url string) string { return strings.Replace(url, "tls://", "nats://", 1) }
	for _, c := range []struct {
		what, url, ca string
		want          error
	}{
		{"its CA", secure.URL(), ca(certs), nil},
		{"its CA, and a URL that does not say tls", asNATS(secure.URL()), ca(certs), nil},
		{"another CA", secure.URL(), ca(others), bus.ErrNotTrusted},
		{"the CAs of the system", secure.URL(), "", bus.ErrNotTrusted},
		{"the CAs of the system, and a URL that does not say tls", asNATS(secure.URL()), "", bus.ErrNotTrusted},
		{"a server of another name", wrongHost.URL(), ca(elsewhere), bus.ErrNotTrusted},
		{"a server that does not encrypt, and a CA", plain.URL(), ca(certs), bus.ErrNotEncrypted},
		{"a server that does not encrypt, and a URL that says tls", strings.Replace(plain.URL(), "nats://", "tls://", 1), "", bus.ErrNotEncrypted},
		{"a server that does not encrypt, on this machine", plain.URL(), "", nil},
	} {
		becomes(t, c.what, bustest.ConnectTo(t, bus.Config{URL: c.url, CA: c.ca}), c.want)
	}
	if _, err := bus.Connect(bus.Config{URL: secure.URL(), CA: filepath.Join(certs, "none.crt")}); !errors.Is(err,
		certfile.ErrAuthorities) {
		t.Errorf("a CA that is not there: %v", err)
	}
	// In this process there is nothing to encrypt.
	becomes(t, "in this process", bustest.ConnectTo(t, bus.Config{InProcess: secure.Provider(), CA: ca(others)}), nil)
}

// Replacing a CA needs no restart of clients, which read it at each connect.
func TestNewCA(t *testing.T) {
	t.Parallel()
	old, next, trusted := certificates(t, "127.0.0.1"), certificates(t, "127.0.0.1"),
		filepath.Join(t.TempDir(), "ca.crt")
	put := func(text ...[]byte) {
		t.Helper()
		all := []byte{}
		for _, one := range text {
			all = append(all, one...)
		}
		if err := os.WriteFile(trusted, all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(dir string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	put(read(old))
	first := bustest.Serve(t, "127.0.0.1:0", old)
	addr := strings.TrimPrefix(first.URL(), "tls://")
	conn := bustest.ConnectTo(t, bus.Config{URL: first.URL(), CA: trusted})
	becomes(t, "the old CA", conn, nil)
	bustest.StopServer(t, first)

	second := bustest.Serve(t, addr, next)
	becomes(t, "a server of the new CA", conn, bus.ErrNotTrusted)
	put(read(old), read(next))
	becomes(t, "both CAs", conn, nil)
	bustest.StopServer(t, second)
	becomes(t, "no server", conn, bus.ErrUnreachable)

	third := bustest.Serve(t, addr, old)
	defer bustest.StopServer(t, third)
	becomes(t, "both CAs, and the old server", conn, nil)
	if err := os.Remove(trusted); err != nil {
		t.Fatal(err)
	}
	if conn.Ready(t.Context()) != nil {
		t.Error("the connection ended with the file")
	}
}
