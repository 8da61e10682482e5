package authsvc_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/token"
)

func get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

func TestPublishedKeys(t *testing.T) {
	k := newKit(t)
	w := k.ask(t, get("/public-key"), http.StatusOK, "")
	if want := string(token.PublicPEM(&k.auth.Private.PublicKey)); w.Body.String() != want {
		t.Errorf("public key = %q, want %q", w.Body, want)
	}
	if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control of the PEM = %q", got)
	}

	w = k.ask(t, get("/.well-known/jwks.json"), http.StatusOK, "")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "public, max-age=60, must-revalidate" {
		t.Errorf("Cache-Control of the set = %q", got)
	}
	set, err := token.ParseJWKS(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if active, ok := set.Active(time.Now()); !ok || active.ID != token.Thumbprint(&k.auth.Private.PublicKey) {
		t.Errorf("the active key is %+v", active)
	}
	var members struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi"} {
		if _, ok := members.Keys[0][private]; ok {
			t.Errorf("the published key has the private member %s", private)
		}
	}
}

func TestKeysAreSentOnce(t *testing.T) {
	k := newKit(t)
	for _, path := range []string{"/public-key", "/.well-known/jwks.json"} {
		tag := k.ask(t, get(path), http.StatusOK, "").Header().Get("ETag")
		again := get(path)
		again.Header.Set("If-None-Match", tag)
		if w := k.ask(t, again, http.StatusNotModified, ""); w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
			t.Errorf("%s again = %q, ETag %s, want nothing and %s", path, w.Body, w.Header().Get("ETag"), tag)
		}
		other := get(path)
		other.Header.Set("If-None-Match", `"another"`)
		k.ask(t, other, http.StatusOK, "")
	}
}

// Other conditions and ranges of a request are ignored.
func TestKeysAreWhole(t *testing.T) {
	k := newKit(t)
	for _, path := range []string{"/public-key", "/.well-known/jwks.json"} {
		whole := k.ask(t, get(path), http.StatusOK, "").Body.String()
		for _, header := range [][2]string{
			{"If-Match", `"another"`}, {"If-Match", "h2c"}, {"Range", "bytes=0-1"}, {"Range", "bytes=900000-"}, {"Range", "identity"},
		} {
			r := get(path)
			r.Header.Set(header[0], header[1])
			if w := k.ask(t, r, http.StatusOK, ""); w.Body.String() != whole {
				t.Errorf("%s with %s: %s = %q, want all of it", path, header[0], header[1], w.Body)
			}
		}
	}
}

// The published keys are always those of Config.Keys.
func TestKeysFollowTheSet(t *testing.T) {
	var now *token.KeySet
	k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Keys = func() *token.KeySet { return now } })
	for _, path := range []string{"/public-key", "/.well-known/jwks.json"} {
		w := k.ask(t, get(path), http.StatusServiceUnavailable, "try again")
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s without a key: headers %v", path, w.Header())
		}
	}
	now = k.auth.KeySet()
	before := k.ask(t, get("/public-key"), http.StatusOK, "").Header().Get("ETag")
	set, err := token.NewKeySet(token.Key{ID: token.Thumbprint(&k.auth.Other.PublicKey),
		Public: &k.auth.Other.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	now = set
	w := k.ask(t, get("/public-key"), http.StatusOK, string(token.PublicPEM(&k.auth.Other.PublicKey)))
	if w.Header().Get("ETag") == before {
		t.Error("another key has the same ETag")
	}
}
