package trustkey_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token/trustkey"
)

// newKey returns the key in a new file, and the file.
func newKey(t testing.TB) (*trustkey.Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), trustkey.KeyFile)
	k, err := trustkey.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func sign(t testing.TB, k *trustkey.Key, kind trustkey.Kind, d trustkey.Document) []byte {
	t.Helper()
	raw, err := k.Sign(kind, d)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(raw)
}

func document(version int64) trustkey.Document {
	return trustkey.Document{Subject: "jwks", Version: version, Body: []byte(`{"keys":[]}`)}
}

func TestADocumentIsOpenedByThePublicHalf(t *testing.T) {
	k, path := newKey(t)
	a, err := trustkey.LoadAnchor(filepath.Join(filepath.Dir(path), trustkey.AnchorFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := sign(t, k, trustkey.KeySet, document(1))
	body, err := a.Open(trustkey.KeySet, "jwks", raw)
	if err != nil || string(body) != `{"keys":[]}` {
		t.Errorf("opened: %s %v", body, err)
	}
	again, err := trustkey.LoadOrCreate(path)
	if err != nil || !bytes.Equal(again.Public(), k.Public()) {
		t.Errorf("the file has another key: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info.Mode(), err)
	}
}

func TestAnAnchorRefuses(t *testing.T) {
	k, _ := newKey(t)
	other, _ := newKey(t)
	good := string(sign(t, k, trustkey.KeySet, document(2)))
	parts := strings.Split(good, ".")
	header := func(text string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + parts[1] + "." + parts[2]
	}
	hmac := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "jwks", "ver": 3, "doc": "{}"})
	hmac.Header["typ"] = string(trustkey.KeySet)
	keyed, err := hmac.SignedString(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	for what, raw := range map[string]string{
		"nothing":                     "",
		"an unsigned set":             `{"keys":[]}`,
		"another key's":               string(sign(t, other, trustkey.KeySet, document(3))),
		"another kind":                string(sign(t, k, trustkey.Revocation, document(3))),
		"another place's":             string(sign(t, k, trustkey.KeySet, trustkey.Document{Subject: "x", Body: []byte("{}")})),
		"an older one":                string(sign(t, k, trustkey.KeySet, document(1))),
		"another of the version":      string(sign(t, k, trustkey.KeySet, trustkey.Document{Subject: "jwks", Version: 2, Body: []byte("{}")})),
		"a changed one":               parts[0] + "." + parts[1] + "A." + parts[2],
		"one without a signature":     parts[0] + "." + parts[1] + ".",
		"alg none":                    header(`{"alg":"none","typ":"pillion-keys+jwt"}`),
		"the public half as a secret": keyed,
		"an unknown header":           header(`{"alg":"EdDSA","typ":"pillion-keys+jwt","crit":["x"]}`),
	} {
		a := k.Anchor()
		if _, err := a.Open(trustkey.KeySet, "jwks", []byte(good)); err != nil {
			t.Fatal(err)
		}
		if body, err := a.Open(trustkey.KeySet, "jwks", []byte(raw)); err == nil {
			t.Errorf("%s: opened %s", what, body)
		}
		if _, err := a.Open(trustkey.KeySet, "jwks", []byte(good)); err != nil {
			t.Errorf("%s: the good one is refused afterwards: %v", what, err)
		}
	}
}

// TestSuccessors replaces a trust key twice. The anchor of the first one follows, and refuses the
// former keys from then on.
func TestSuccessors(t *testing.T) {
	first, path := newKey(t)
	thief, _ := newKey(t)
	anchor := first.Anchor()
	var keys []*trustkey.Key
	for range 3 {
		k, err := trustkey.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
		if err := trustkey.Replace(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys[2].Anchor().Accept(keys[1]); err == nil {
		t.Error("the anchor of a successor accepts the former key")
	}
	if err := keys[1].Anchor().Accept(keys[2]); err != nil {
		t.Errorf("the anchor of the second key refuses the third: %v", err)
	}
	if err := anchor.Accept(thief); err == nil {
		t.Error("a key that nobody has named is accepted")
	}
	for i, k := range []*trustkey.Key{keys[0], keys[2]} {
		if _, err := anchor.Open(trustkey.KeySet, "jwks", sign(t, k, trustkey.KeySet, document(int64(i+1)))); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	for i, k := range keys[:2] {
		if _, err := anchor.Open(trustkey.KeySet, "jwks", sign(t, k, trustkey.KeySet, document(9))); err == nil {
			t.Errorf("former key %d is believed", i)
		}
	}
	old := sign(t, keys[0], trustkey.Revocation, trustkey.Document{Subject: "s.x", Body: []byte(`{"v":1}`)})
	if d, own, err := keys[2].Open(trustkey.Revocation, "s.x", old); err != nil || own || string(d.Body) != `{"v":1}` {
		t.Errorf("a successor does not know what its predecessor has signed: %v %v", own, err)
	}
	if _, _, err := keys[2].Open(trustkey.Revocation, "s.x", sign(t, thief, trustkey.Revocation,
		trustkey.Document{Subject: "s.x", Body: []byte(`{}`)})); err == nil {
		t.Error("a successor opens what another key has signed")
	}
}

func TestFilesThatAreNoTrustKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	k, path := newKey(t)
	private, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, file := range map[string]string{
		"nothing":       write("nothing", "", 0o600),
		"a public half": write("public", string(k.Public()), 0o600),
		"open to all":   write("open", string(private), 0o644),
		"missing":       filepath.Join(dir, "missing"),
	} {
		if _, err := trustkey.Load(file); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := trustkey.LoadAnchor(write("private", string(private), 0o600), nil); !errors.Is(err, trustkey.ErrAnchor) {
		t.Errorf("a private key as a public half: %v", err)
	}
}

// TestAnAnchorWaitsForItsFile starts before `pillion keys init`.
func TestAnAnchorWaitsForItsFile(t *testing.T) {
	k, _ := newKey(t)
	file := filepath.Join(t.TempDir(), trustkey.AnchorFile)
	a, err := trustkey.LoadAnchor(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := sign(t, k, trustkey.KeySet, document(1))
	if _, err := a.Open(trustkey.KeySet, "jwks", raw); err == nil || !errors.Is(a.Ready(), trustkey.ErrAnchor) {
		t.Errorf("without its file it opens a document: %v, %v", err, a.Ready())
	}
	awaited := make(chan error, 1)
	go func() { awaited <- a.Await(t.Context()) }()
	if err := k.Publish(file); err != nil {
		t.Fatal(err)
	}
	if err := <-awaited; err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(trustkey.KeySet, "jwks", raw); err != nil {
		t.Error(err)
	}
}
