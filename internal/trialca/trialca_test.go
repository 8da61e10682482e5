package trialca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/trialca"
)

func config(dir string) trialca.Config {
	return trialca.Config{
		Folder: func(string) string { return dir },
		Holders: []trialca.Holder{
			{Name: "node", Hosts: []string{"localhost", "127.0.0.1", "::1", "nats-1"}, Peer: true},
			{Name: "service", Hosts: []string{"usersvc"}},
		},
	}
}

func leaf(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// TestMake checks the hosts, uses, lifetimes and file modes of the certificates.
func TestMake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	made, err := trialca.Make(config(dir))
	if err != nil || !slices.Equal(made, []string{"ca", "node", "service"}) {
		t.Fatalf("%v, %v", made, err)
	}
	pool, err := certfile.Authorities(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	node, service := leaf(t, dir, "node"), leaf(t, dir, "service")
	for _, c := range []struct {
		what string
		cert *x509.Certificate
		host string
		use  x509.ExtKeyUsage
		good bool
	}{
		{"a node", node, "nats-1", x509.ExtKeyUsageServerAuth, true},
		{"a node by its address", node, "127.0.0.1", x509.ExtKeyUsageServerAuth, true},
		{"a node by its IPv6 address", node, "::1", x509.ExtKeyUsageServerAuth, true},
		{"a node to other nodes", node, "", x509.ExtKeyUsageClientAuth, true},
		{"a node under another name", node, "usersvc", x509.ExtKeyUsageServerAuth, false},
		{"a service", service, "usersvc", x509.ExtKeyUsageServerAuth, true},
		{"a service as a node", service, "", x509.ExtKeyUsageClientAuth, false},
	} {
		_, err := c.cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.use}})
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if life := node.NotAfter.Sub(node.NotBefore); life < trialca.LeafLife || life > trialca.LeafLife+time.Hour {
		t.Errorf("the lifetime of a certificate is %v", life)
	}
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600, "node.key": 0o600, "service.key": 0o600,
		"ca.crt": 0o644, "node.crt": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAgain calls Make on existing files: they stay, unless they are to be renewed, with the same
// CA.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	c := config(dir)
	if _, err := trialca.Make(c); err != nil {
		t.Fatal(err)
	}
	ca, first := read(t, dir, "ca.crt"), leaf(t, dir, "node")
	if made, err := trialca.Make(c); err != nil || made != nil || !leaf(t, dir, "node").Equal(first) {
		t.Errorf("the second time: made %v, %v", made, err)
	}
	if err := os.Remove(filepath.Join(dir, "service.key")); err != nil {
		t.Fatal(err)
	}
	if made, err := trialca.Make(c); err != nil || !slices.Equal(made, []string{"service"}) {
		t.Errorf("with a key missing: made %v, %v", made, err)
	}
	c.Renew = true
	if made, err := trialca.Make(c); err != nil || !slices.Equal(made, []string{"node", "service"}) {
		t.Errorf("renewing: made %v, %v", made, err)
	}
	renewed := leaf(t, dir, "node")
	if renewed.Equal(first) || read(t, dir, "ca.crt") != ca {
		t.Error("not renewed, or by another CA")
	}
	pool, err := certfile.Authorities(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := renewed.Verify(x509.VerifyOptions{Roots: pool, DNSName: "localhost"}); err != nil {
		t.Errorf("renewed: %v", err)
	}
}

// TestApart keeps each holder's key in its own folder, and publishes the CA's certificate in
// another one.
func TestApart(t *testing.T) {
	dir, public := t.TempDir(), filepath.Join(t.TempDir(), "public")
	c := config("")
	c.Folder, c.Public = func(name string) string { return filepath.Join(dir, name) }, public
	if _, err := trialca.Make(c); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{
		filepath.Join(dir, "ca"): "ca.crt ca.key", filepath.Join(dir, "node"): "ca.crt node.crt node.key",
		filepath.Join(dir, "service"): "ca.crt service.crt service.key", public: "ca.crt",
	} {
		var names []string
		files, err := os.ReadDir(folder)
		for _, f := range files {
			names = append(names, f.Name())
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s has %s, want %s (%v)", folder, got, want, err)
		}
	}
	if read(t, public, "ca.crt") != read(t, filepath.Join(dir, "ca"), "ca.crt") {
		t.Error("another CA is published")
	}
}

// TestRefused calls Make with a CA that is missing, open to others or broken: it must not be
// replaced.
func TestRefused(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"the CA's key is missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, "but the key of its CA is missing from"},
		"the CA's key is open":    {func(dir string) error { return os.Chmod(filepath.Join(dir, "ca.key"), 0o644) }, "chmod 600"},
		"the CA's key is another": {func(dir string) error { return os.Rename(filepath.Join(dir, "node.key"), filepath.Join(dir, "ca.key")) }, "cannot be used: the key does not match the certificate. "},
		"the CA is noise":         {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600) }, "cannot be used: not in PEM. "},
	} {
		dir := t.TempDir()
		if _, err := trialca.Make(config(dir)); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		before := read(t, dir, "node.crt")
		renew := config(dir)
		renew.Renew = true
		if made, err := trialca.Make(renew); !errors.Is(err, trialca.ErrFolder) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: made %v, %v", what, made, err)
		}
		if read(t, dir, "node.crt") != before {
			t.Errorf("%s: the certificate was replaced", what)
		}
	}
	renew := config(t.TempDir())
	renew.Renew = true
	if _, err := trialca.Make(renew); !errors.Is(err, trialca.ErrFolder) || !strings.Contains(err.Error(), "no CA") {
		t.Errorf("nothing to renew: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trialca.Make(config(file)); !errors.Is(err, trialca.ErrFolder) ||
		!strings.Contains(err.Error(), file) {
		t.Errorf("a file for a folder: %v", err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
