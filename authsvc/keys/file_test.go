package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token/tokentest"
)

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func pkcs1(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func writeKey(t *testing.T, data []byte, mode fs.FileMode) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "private.key")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // which the umask does not change
		t.Fatal(err)
	}
	return path
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "keys")
	path := filepath.Join(dir, "private.key")
	key, err := keys.LoadOrCreate(path, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if key.N.BitLen() != 2048 || key.E != 65537 {
		t.Errorf("a new key has %d bits and exponent %d", key.N.BitLen(), key.E)
	}
	for name, want := range map[string]fs.FileMode{dir: 0o700, filepath.Dir(dir): 0o700, path: 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), want)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("-----BEGIN PRIVATE KEY-----\n")) {
		t.Error("the file is not PKCS#8 PEM")
	}
	wantAlone(t, path)
	again, err := keys.LoadOrCreate(path, 4096)
	if err != nil || !again.Equal(key) {
		t.Errorf("a second start has another key (%v)", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
		t.Errorf("a second start changed the file (%v)", err)
	}
}

// wantAlone fails t if the folder contains anything but the key.
func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the folder of the key has %v", entries)
	}
}

func TestStartersShareOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "private.key")
	var wg sync.WaitGroup
	var got [8]*rsa.PrivateKey
	for i := range got {
		wg.Go(func() {
			key, err := keys.LoadOrCreate(path, 2048)
			if err != nil {
				t.Error(err)
			}
			got[i] = key
		})
	}
	wg.Wait()
	for i, key := range got {
		if !key.Equal(got[0]) {
			t.Errorf("starter %d has another key", i)
		}
	}
	wantAlone(t, path)
}

func TestKeysThatAreTaken(t *testing.T) {
	key := tokentest.New(t).Private
	for _, c := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{
		{"PKCS#8", pkcs8(t, key), 0o600},
		{"PKCS#1", pkcs1(key), 0o600},
		{"read-only", pkcs8(t, key), 0o400},
		{"with text before and blank lines after", append(append([]byte("Private-Key: (2048 bit)\n"), pkcs8(t, key)...), " \r\n\n"...), 0o600},
		{"with CRLF", bytes.ReplaceAll(pkcs8(t, key), []byte("\n"), []byte("\r\n")), 0o600},
	} {
		got, err := keys.LoadOrCreate(writeKey(t, c.data, c.mode), 2048)
		if err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	key := tokentest.New(t).Private
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(t, key)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	cut, _ := pem.Decode(good)
	oddPrime := *key
	oddPrime.D = new(big.Int).Add(key.D, big.NewInt(2))
	for _, c := range []struct {
		name     string
		data     []byte
		mode     fs.FileMode
		want     *fault.Error
		sentence string
	}{
		{"read by the group", good, 0o640, keys.ErrFileTooOpen, "chmod 600 "},
		{"read by others", good, 0o604, keys.ErrFileTooOpen, "(mode 0604)"},
		{"written by the group", good, 0o620, keys.ErrFileTooOpen, "chmod 600 "},
		{"open to everybody", good, 0o666, keys.ErrFileTooOpen, "chmod 600 "},
		{"empty", nil, 0o600, keys.ErrFileNotPEM, "is not one PEM block"},
		{"noise", []byte("hello"), 0o600, keys.ErrFileNotPEM, "is not one PEM block"},
		{"DER", cut.Bytes, 0o600, keys.ErrFileNotPEM, "is not one PEM block"},
		{"two keys", append(append([]byte{}, good...), good...), 0o600, keys.ErrFileNotPEM, "is not one PEM block"},
		{"longer than any key", append(bytes.Repeat([]byte("\n"), 70<<10), good...), 0o600, keys.ErrFileNotPEM, "is not one PEM block"},
		{"cut off", block("PRIVATE KEY", cut.Bytes[:600]), 0o600, keys.ErrFileNotRSA, "is damaged"},
		{"PKCS#1 cut off", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)[:600]), 0o600, keys.ErrFileNotRSA, "is damaged"},
		{"whose parts disagree", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(&oddPrime)), 0o600, keys.ErrFileNotRSA, "is damaged"},
		{"EC", block("EC PRIVATE KEY", ecDER), 0o600, keys.ErrFileNotRSA, "something else"},
		{"EC in PKCS#8", pkcs8(t, ec), 0o600, keys.ErrFileNotRSA, "another kind of key"},
		{"Ed25519", pkcs8(t, ed), 0o600, keys.ErrFileNotRSA, "another kind of key"},
		{"public", block("PUBLIC KEY", public), 0o600, keys.ErrFileNotRSA, "something public"},
		{"under a passphrase", block("ENCRYPTED PRIVATE KEY", cut.Bytes), 0o600, keys.ErrFileNotRSA, "a key under a passphrase"},
		{"under a passphrase, the old way", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: cut.Bytes,
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}}), 0o600,
			keys.ErrFileNotRSA, "a key under a passphrase"},
		{"1024 bits", pkcs8(t, short), 0o600, keys.ErrFileUnfit, "has 1024 bits"},
		{"4128 bits", pkcs1(makeKey(t, 4128, 65537)), 0o600, keys.ErrFileUnfit, "has 4128 bits"},
		{"exponent 3", pkcs1(makeKey(t, 2048, 3)), 0o600, keys.ErrFileUnfit, "has the exponent 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeKey(t, c.data, c.mode)
			got, err := keys.LoadOrCreate(path, 2048)
			wantKeyFault(t, got, err, c.want, path, c.sentence)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.data) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// wantKeyFault fails t unless the error is one sentence that names the file and the remedy.
func wantKeyFault(t *testing.T, key *rsa.PrivateKey, err error, want *fault.Error, path, sentence string) {
	t.Helper()
	if key != nil || !errors.Is(err, want) || fault.KindOf(err) != fault.Invalid {
		t.Fatalf("LoadOrCreate = %v, want %s", err, want.Code)
	}
	message := fault.From(err).Message
	if !strings.Contains(message, path) || !strings.Contains(message, sentence) || strings.Contains(message, "\n") {
		t.Errorf("the sentence is %q, want one with %q and %q", message, path, sentence)
	}
}

// makeKey returns a valid RSA key of that size and exponent, which must be prime. crypto/rsa
// makes none with exponent 3.
func makeKey(t *testing.T, bits int, exponent int64) *rsa.PrivateKey {
	t.Helper()
	one, e := big.NewInt(1), big.NewInt(exponent)
	prime := func() *big.Int {
		for {
			p, err := rand.Prime(rand.Reader, bits/2)
			if err != nil {
				t.Fatal(err)
			}
			if new(big.Int).Mod(p, e).Cmp(one) != 0 { // then e has an inverse
				return p
			}
		}
	}
	p, q := prime(), prime()
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(exponent)},
		D:         new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q},
	}
	key.Precompute()
	return key
}

func TestNoPlaceForAKey(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere", "private.key"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, sentence string }{
		{"a folder", dir, "cannot be read: not a regular file. "},
		{"a pipe", pipe, "cannot be read"}, // and does not wait for a writer
		{"under a file", filepath.Join(file, "private.key"), "cannot be read: not a directory. "},
		{"a folder that cannot be made", "/dev/null/keys/private.key", "cannot be read"},
		{"a folder that takes no files", "/proc/private.key", "could not be written to /proc/private.key: no such file or directory. "},
		{"a link to nowhere", dangling, "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := keys.LoadOrCreate(c.path, 2048)
			wantKeyFault(t, got, err, keys.ErrFile, c.path, c.sentence)
		})
	}
	for _, bits := range []int{0, 1024, 2047, 2049, 8192, -1} {
		path := filepath.Join(t.TempDir(), "private.key")
		if key, err := keys.LoadOrCreate(path, bits); key != nil || !errors.Is(err, keys.ErrBits) {
			t.Errorf("LoadOrCreate with %d bits = %v", bits, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a key of %d bits was made", bits)
		}
	}
}
