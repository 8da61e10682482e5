package web

import (
	"net/http"
	"time"

	"github.com/go-chi/httprate"

	"github.com/example/pillion/internal/fault"
)

// ErrTooMany refuses a request over a Rate.
var ErrTooMany = fault.New(fault.Exhausted, "too_many_requests",
	"Too many requests. Please wait a moment and try again.")

// A Rate limits the requests of one client to one instance. The zero Rate is no limit.
type Rate struct{ PerMinute int }

// of returns middleware that limits requests by key, within a sliding window of a minute. It does
// not limit a request with an empty key.
func (l Rate) of(key func(*http.Request) string) func(http.Handler) http.Handler {
	if l.PerMinute <= 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	// The sliding window lets a client through again soon after it slows down to an allowed pace.
	const retryAfter = 5 * time.Second
	limit := httprate.LimitBy(l.PerMinute, time.Minute, func(r *http.Request) (string, error) { return key(r), nil },
		httprate.WithResponseHeaders(httprate.ResponseHeaders{}), // WriteError sets Retry-After
		httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			WriteError(w, r, ErrTooMany.After(retryAfter))
		}),
	)
	return func(next http.Handler) http.Handler {
		limited := limit(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if key(r) == "" {
				next.ServeHTTP(w, r)
				return
			}
			limited.ServeHTTP(w, r)
		})
	}
}

// ByAddress limits requests by the client's network, if it is known (see [ClientNetwork]).
func (l Rate) ByAddress() func(http.Handler) http.Handler {
	return l.of(func(r *http.Request) string { return ClientNetwork(r.Context()) })
}

// ByCaller limits requests by the account of the verified token. It belongs behind [Require].
func (l Rate) ByCaller() func(http.Handler) http.Handler {
	return l.of(func(r *http.Request) string {
		claims, _ := Caller(r.Context())
		return claims.Subject
	})
}
