package commands

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// TestBadStart starts programs that cannot run. Each prints one sentence with the remedy and exits
// with status 2.
func TestBadStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()

	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "in the way", 0o600)
	open := write(t, filepath.Join(dir, "open.key"), rsaKey(t), 0o644)
	curve := write(t, filepath.Join(dir, "curve.key"), curveKey(t), 0o600)
	noise := write(t, filepath.Join(dir, "noise.key"), "no PEM", 0o600)
	certs := makeCerts(t)
	cert, key := filepath.Join(certs, "usersvc.crt"), filepath.Join(certs, "usersvc.key")
	inUse := filepath.Join(dir, "used")
	proctest.Pillion(t, inUse)

	free := []string{"--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0"}
	all := func(args ...string) []string { // the last one wins
		return append(append([]string{"--data=" + filepath.Join(dir, "data")}, free...), args...)
	}
	auth := func(args ...string) []string {
		return append([]string{"--data=" + filepath.Join(dir, "auth"), "--auth-addr=127.0.0.1:0",
			"--ops-addr=127.0.0.1:0"}, args...)
	}
	for _, c := range []struct {
		name, program string
		args          []string
		want          string // a part of the sentence
	}{
		{"authsvc's port is taken", "pillion", all("--auth-addr=" + busy), "authsvc cannot listen on " + busy + ": address already in use. Choose another address with --auth-addr (AUTH_ADDR)."},
		{"usersvc's port is taken", "pillion", all("--user-addr=" + busy), "with --user-addr (USER_ADDR)."},
		{"ridersvc's port is taken", "pillion", all("--rider-addr=" + busy), "with --rider-addr (RIDER_ADDR)."},
		{"the port of all services is taken", "pillion", all("--addr=" + busy), "The address of all services cannot listen on " + busy + ": address already in use. Choose another address with --addr (PILLION_ADDR), or none with --addr=off."},
		{"an address of all services that is none", "pillion", all("--addr=8080"), "--addr (PILLION_ADDR) must be an address to listen on such as 127.0.0.1:3000, with a port from 0 to 65535, or off (no such address); it is \"8080\"."},
		{"an origin with a path", "usersvc", []string{"--cors-origins=https://app.example/x"}, "--cors-origins (CORS_ORIGINS) must look like http://host:3000"},
		{"a board for an email", "pillion", all("--board-for=kim@example.com"), "--board-for (BOARD_FOR) must be ids of accounts"},
		{"all origins", "pillion", all("--cors-origins=*"), "--cors-origins (CORS_ORIGINS) must look like http://host:3000"},
		{"the ops port is taken", "pillion", all("--ops-addr=" + busy), "The ops address cannot listen on " + busy},
		{"the port of NATS is taken", "pillion", all("--nats-addr=" + busy), "NATS cannot listen on " + busy + ": address already in use. Choose another address with --nats-addr (NATS_ADDR)."},
		{"an address of another machine", "pillion", all("--user-addr=192.0.2.1:80"), "cannot assign requested address"},
		{"the data folder is a file", "pillion", all("--data=" + file), file},
		{"the data folder is in use", "pillion", all("--data=" + inUse), "another program is using it"},
		{"the data folder of authsvc is a file", "authsvc", auth("--data=" + file), file},
		{"others may read the key", "pillion", all("--private-key=" + open), "chmod 600 " + open},
		{"the key is of another kind", "authsvc", auth("--private-key=" + curve), curve},
		{"the key is noise", "authsvc", auth("--private-key=" + noise), noise},
		{"a NATS URL of another kind", "pillion", all("--nats-url=http://127.0.0.1"), "--nats-url (NATS_URL) must look like nats://host:4222"},
		{"a NATS URL without a host", "usersvc", []string{"--nats-url=nats://"}, "--nats-url (NATS_URL) must look like nats://host:4222"},
		{"NATS beyond this machine, without a certificate", "pillion", all("--nats-addr=0.0.0.0:0"), "which other machines can reach. Give it a certificate with --nats-tls-cert and --nats-tls-key"},
		{"the demo for others", "pillion", all("--demo", "--rider-addr=0.0.0.0:0"), "makes accounts whose password everybody knows, and other machines can reach [::]:"},
		{"the demo of authsvc for others", "authsvc", auth("--demo", "--auth-addr=0.0.0.0:0"), "or allow it with --insecure (PILLION_INSECURE)."},
		{"profiles for others", "usersvc", []string{"--pprof", "--user-addr=127.0.0.1:0", "--ops-addr=0.0.0.0:0"}, "--pprof (PILLION_PPROF) shows what the process does"},
		{"a certificate without its key", "pillion", all("--tls-cert=" + cert), "--tls-cert needs --tls-key: name the file with the certificate's private key."},
		{"a key without its certificate", "usersvc", []string{"--tls-key=" + key}, "--tls-key needs --tls-cert"},
		{"half a pair for NATS", "pillion", all("--nats-tls-key=" + key), "--nats-tls-key needs --nats-tls-cert"},
		{"no such certificate", "ridersvc", []string{"--tls-cert=" + file + ".crt", "--tls-key=" + key}, file + ".crt cannot be read: no such file or directory"},
		{"a key of another certificate", "authsvc", auth("--tls-cert="+cert, "--tls-key="+filepath.Join(certs, "authsvc.key")), "do not match"},
		{"others may read a certificate's key", "authsvc", auth("--tls-cert="+cert, "--tls-key="+open), "chmod 600 " + open},
		{"no such CA", "usersvc", []string{"--ops-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0", "--nats-ca=" + file + ".crt"}, "The CA in " + file + ".crt cannot be used"},
		{"a CA that is none", "pillion", []string{"provision", "--nats-ca=" + noise}, "The CA in " + noise + " cannot be used: it contains no certificate."},
		{"usersvc's own port is taken", "usersvc", []string{"--ops-addr=127.0.0.1:0", "--user-addr=" + busy}, "with --user-addr (USER_ADDR)."},
		{"ridersvc's own port is taken", "ridersvc", []string{"--ops-addr=127.0.0.1:0", "--rider-addr=" + busy}, "with --rider-addr (RIDER_ADDR)."},
		{"a flag that does not exist", "ridersvc", []string{"--book-limit=2"}, "Unknown flag --book-limit; see ridersvc --help."},
		{"provision at nowhere", "pillion", []string{"provision", "--nats-url=nowhere"}, "--nats-url (NATS_URL) must look like nats://host:4222"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, stderr := proctest.Finish(t, c.program, append(c.args, "--log-level=error")...)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if status != 2 || len(lines) != 1 || !strings.HasPrefix(stderr, c.program+": ") ||
				!strings.Contains(stderr, c.want) {
				t.Errorf("status %d, want 2 and one sentence with %q:\n%s", status, c.want, stderr)
			}
		})
	}
}

// TestBadStartTellsAll checks that two bad addresses, or settings, are reported together.
func TestBadStartTellsAll(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--auth-addr=192.0.2.1:80", "--user-addr=192.0.2.1:81", "--rider-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--data=" + t.TempDir()},
		{"--jwt-expiry=25h", "--replicas=2"},
		{"provision", "--replicas=2", "--timeout=0"},
	} {
		status, _, stderr := proctest.Finish(t, "pillion", args...)
		if status != 2 || strings.Count(stderr, "\n") != 2 || strings.Count(stderr, ".\n") != 2 {
			t.Errorf("%q: status %d, want 2 and two sentences:\n%s", args, status, stderr)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pillion", "authsvc", "usersvc", "ridersvc"} {
		status, out, stderr := proctest.Finish(t, name, "--help")
		if status != 0 || stderr != "" || !strings.Contains(out, "--ops-addr") || !strings.Contains(out, "health") {
			t.Errorf("%s --help: status %d\n%s%s", name, status, out, stderr)
		}
		if strings.Index(out, "Commands:") > strings.Index(out, "--ops-addr") {
			t.Errorf("%s --help has the commands behind the settings:\n%s", name, out)
		}
		status, out, stderr = proctest.Finish(t, name, "--version")
		if status != 0 || stderr != "" || !strings.HasPrefix(out, name+" ") {
			t.Errorf("%s --version: status %d, %q %q", name, status, out, stderr)
		}
	}
}

// TestConfigurationIsDocumented checks that docs/configuration.md lists the flags and variables of
// each program's --help.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	helps := map[string]string{}
	for name, args := range map[string][]string{
		"pillion": {"pillion", "--help"}, "pillion provision": {"pillion", "provision", "--help"},
		"authsvc": {"authsvc", "--help"}, "usersvc": {"usersvc", "--help"}, "ridersvc": {"ridersvc", "--help"},
	} {
		_, helps[name], _ = proctest.Finish(t, args[0], args[1:]...)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `--") {
			continue
		}
		flag, env := strings.Trim(cells[1], " `"), strings.Trim(cells[2], " `")
		documented[flag] = true
		programs := strings.TrimSpace(cells[4])
		for name, out := range helps {
			said := strings.Contains(out, flag+"=") || strings.Contains(out, flag+" ")
			listed := programs == "all" && name != "pillion provision"
			for one := range strings.SplitSeq(programs, ",") {
				listed = listed || strings.TrimSpace(one) == name
			}
			// "all" excludes settings that provision does not need.
			if said != listed && (name != "pillion provision" || programs != "all") {
				t.Errorf("%s: listed for %s: %v, shown by its --help: %v", flag, name, listed, said)
			}
			if said && !strings.Contains(strings.Join(strings.Fields(out), " "), "$"+env) {
				t.Errorf("%s: %s --help does not name %s", flag, name, env)
			}
		}
	}
	flags := regexp.MustCompile(`--[a-z][a-z-]+`)
	for name, out := range helps {
		for _, flag := range flags.FindAllString(out, -1) {
			if !documented[flag] && !slices.Contains([]string{"--help", "--version", "--from", "--to", "--reason",
				"--out"}, flag) {
				t.Errorf("%s of %s is not in docs/configuration.md", flag, name)
			}
		}
	}
	if len(documented) < 17 {
		t.Errorf("only %d flags were found in docs/configuration.md", len(documented))
	}
}

func write(t *testing.T, file, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil { // independent of the umask
		t.Fatal(err)
	}
	return file
}

func rsaKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func curveKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
