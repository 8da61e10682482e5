package authsvc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/example/pillion/token"
)

// How long clients may cache the published keys. The key set may be a minute old: every token
// names its key, and a key is published before it is used. Clients of the single PEM ignore key
// ids, and so cannot tell that it is outdated. They must ask each time, which costs no body while
// the key stays the same.
const (
	cacheJWKS = "public, max-age=60, must-revalidate"
	cachePEM  = "no-cache"
)

// publicKey returns the active key as PEM.
func (s *Service) publicKey(w http.ResponseWriter, r *http.Request) error {
	set := s.c.Keys()
	if set == nil {
		return token.ErrNoKeys
	}
	active, ok := set.Active(s.c.Now())
	if !ok {
		return token.ErrNoKeys
	}
	serveKeys(w, r, "text/plain; charset=utf-8", cachePEM, token.PublicPEM(active.Public))
	return nil
}

// jwks returns the published key set.
func (s *Service) jwks(w http.ResponseWriter, r *http.Request) error {
	set := s.c.Keys()
	if set == nil {
		return token.ErrNoKeys
	}
	serveKeys(w, r, "application/json", cacheJWKS, set.JWKS())
	return nil
}

// serveKeys answers with data, or with 304 if the client has it already. It ignores other
// conditions and ranges: net/http would refuse them in its own format.
func serveKeys(w http.ResponseWriter, r *http.Request, mediaType, caching string, data []byte) {
	sum := sha256.Sum256(data)
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", caching)
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	only := *r
	only.Header = http.Header{"If-None-Match": r.Header["If-None-Match"]}
	http.ServeContent(w, &only, "", time.Time{}, bytes.NewReader(data))
}
