package web

import (
	"net/http"

	"github.com/rs/cors"
)

// preflightAge is how long a browser may remember the answer to a preflight, in seconds.
const preflightAge = 600

// crossOrigin returns middleware that lets pages of other origins read answers (CORS), and what
// answers the preflights that browsers send before their requests. They are two, so that what
// stands between them sees preflights. Without origins neither does anything.
//
// A page of another origin sends tokens itself. It gets no cookies: authsvc takes the refresh
// cookie from pages of its own origin only.
func crossOrigin(origins []string) (headers, preflight func(http.Handler) http.Handler) {
	if len(origins) == 0 {
		same := func(next http.Handler) http.Handler { return next }
		return same, same
	}
	allow := cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowedHeaders: []string{"Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID",
			"X-Request-ID"},
		ExposedHeaders:     []string{"Retry-After", "WWW-Authenticate", "X-Request-ID"},
		MaxAge:             preflightAge,
		OptionsPassthrough: true,
	})
	return allow.Handler, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
