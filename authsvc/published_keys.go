package authsvc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/example/pillion/token"
)

// How long others may use the published keys without asking again. The set may be a minute old: every token says which key it
// needs, and a key is published before it is used. The lone PEM is for those who look at no key id: they could not tell that it
// is an old one, and so have to ask each time, which costs no body as long as it is the same.
const (
	cacheJWKS = "public, max-age=60, must-revalidate"
	cachePEM  = "no-cache"
)

func (s *Service) publicKey(w http.ResponseWriter, r *http.Request) error {
	set := s.keys()
	if set == nil {
		return token.ErrNoKeys
	}
	active, ok := set.Active(s.now())
	if !ok {
		return token.ErrNoKeys
	}
	serveKeys(w, r, "text/plain; charset=utf-8", cachePEM, token.PublicPEM(active.Public))
	return nil
}

func (s *Service) jwks(w http.ResponseWriter, r *http.Request) error {
	set := s.keys()
	if set == nil {
		return token.ErrNoKeys
	}
	serveKeys(w, r, "application/json", cacheJWKS, set.JWKS())
	return nil
}

// serveKeys answers with data, or with 304 to whoever has it already. It takes no other condition and
// no range: their refusals would be net/http's own, which are no sentences, and nobody needs part of a key.
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
