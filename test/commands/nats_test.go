package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/test/proctest"

	"github.com/nats-io/nats.go"
)

// TestNATSIsClosed connects to NATS without a key or a token. That is possible only with --demo,
// and from this machine.
func TestNATSIsClosed(t *testing.T) {
	t.Parallel()
	certs := makeCerts(t)
	for _, c := range []struct {
		what  string
		args  []string
		watch bool
	}{
		{"a demonstration", []string{"--demo"}, true},
		{"no demonstration", nil, false},
		{"a demonstration for others", append(natsTLS(certs), "--demo", "--nats-addr=0.0.0.0:0"), false},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := proctest.Pillion(t, t.TempDir(), c.args...)
			// The log has the address of all interfaces, for which no certificate is made.
			url := strings.Replace(p.At["nats"], "0.0.0.0", "127.0.0.1", 1)
			nc, err := nats.Connect(url, serverTrust(t, p, certs), nats.Timeout(10*time.Second))
			if !c.watch {
				if err == nil {
					nc.Close()
				}
				if !errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("without credentials: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			m, err := nc.Request("auth.public-key", nil, 10*time.Second)
			if err != nil || !strings.HasPrefix(string(m.Data), "-----BEGIN PUBLIC KEY-----") {
				t.Errorf("the public key: %v", err)
			}
		})
	}
}

// TestKeysInit creates the keys of all services, in one folder or apart. A second call changes none
// of them.
func TestKeysInit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "keys.conf")
	run := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := proctest.Finish(t, "pillion", append([]string{"keys", "init"}, args...)...)
		if status != 0 {
			t.Fatalf("keys init %v: %d %s", args, status, stderr)
		}
		return stdout
	}
	together := filepath.Join(dir, "together")
	said := run("--services=" + together)
	if strings.Count(said, "PILLION_") != 7 || strings.Contains(said, "SU") && strings.Contains(said, ": S") {
		t.Errorf("it prints\n%s", said)
	}
	for _, name := range []string{"authsvc.nk", "usersvc.nk", "ridersvc.nk", "operator.nk", "callout.nk",
		"callout-issuer.nk", "callout-xkey.nk"} {
		info, err := os.Stat(filepath.Join(together, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if again := run("--services=" + together); again != said {
		t.Errorf("the second time it prints\n%s\nand not\n%s", again, said)
	}

	services, apart := filepath.Join(dir, "services"), filepath.Join(dir, "apart")
	run("--services="+services, "--apart="+apart, "--conf="+conf)
	run("--services="+services, "--apart="+apart, "--conf="+conf)
	written, err := os.ReadFile(conf)
	if err != nil || strings.Count(string(written), "PILLION_") != 7 {
		t.Errorf("the file for servers: %v\n%s", err, written)
	}
	for who, files := range map[string][]string{
		"authsvc": {"authsvc.nk", "callout.nk", "callout-issuer.nk", "callout-xkey.nk"}, "usersvc": {"usersvc.nk"}, "ridersvc": {"ridersvc.nk"}, "operator": {"operator.nk"},
	} {
		found, err := filepath.Glob(filepath.Join(apart, who, "*.nk"))
		if err != nil || len(found) != len(files) {
			t.Errorf("%s has %v, want %v", who, found, files)
		}
		if _, err := os.Stat(filepath.Join(services, who+".pub")); err != nil {
			t.Error(err)
		}
	}
	for _, secrets := range []string{"*.nk", "*.secret"} {
		if found, _ := filepath.Glob(filepath.Join(services, secrets)); len(found) > 0 {
			t.Errorf("the shared folder has %v", found)
		}
	}
	// The secret of rides is in a folder of its own. That of an earlier version is kept.
	secret := filepath.Join(apart, "rides", "rides.secret")
	info, err := os.Stat(secret)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 32 {
		t.Fatalf("the secret: %v, %v", info, err)
	}
	old := strings.Repeat("x", 32)
	if err := os.WriteFile(filepath.Join(apart, "ridersvc", "rides.secret"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(secret, secret+".away"); err != nil {
		t.Fatal(err)
	}
	run("--services="+services, "--apart="+apart, "--conf="+conf)
	if text, err := os.ReadFile(secret); err != nil || strings.TrimSpace(string(text)) != old {
		t.Errorf("after an upgrade the secret is %q, %v", text, err)
	}
	if err := os.Rename(secret+".away", secret); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := proctest.Finish(t, "pillion", "keys", "init", "--services="+services,
		"--apart="+apart); status != 2 || !strings.Contains(stderr, "differ. Copy one of them over the other.") {
		t.Errorf("two secrets: %d %s", status, stderr)
	}
	status, _, stderr := proctest.Finish(t, "pillion", "keys", "init", "--services="+together,
		"--conf="+filepath.Join(dir, "nowhere", "keys.conf"))
	if status != 2 || !strings.Contains(stderr, "keys.conf: no such file or directory. Make its folder writable") {
		t.Errorf("into no folder: %d %s", status, stderr)
	}
}
