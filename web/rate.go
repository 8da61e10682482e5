package web

import (
	"net/http"
	"time"

	"github.com/go-chi/httprate"

	"github.com/example/pillion/internal/fault"
)

// ErrTooMany is what somebody gets who asks more often than a Rate allows.
var ErrTooMany = fault.New(fault.Exhausted, "too_many_requests", "Too many requests. Please wait a moment and try again.")

// A Rate is how often somebody may ask, at one instance. The zero Rate is no limit.
type Rate struct{ PerMinute int }

// of returns middleware that answers ErrTooMany to whoever has asked too often by key within the last minute, counted by a sliding
// window. Who has no key is not limited.
func (l Rate) of(key func(*http.Request) string) func(http.Handler) http.Handler {
	if l.PerMinute <= 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	// The window slides: what was asked in the minute before counts for the part of it that is less than a minute ago. So somebody who
	// goes on at an allowed pace is soon let in again.
	const again = 5 * time.Second
	limit := httprate.LimitBy(l.PerMinute, time.Minute, func(r *http.Request) (string, error) { return key(r), nil },
		httprate.WithResponseHeaders(httprate.ResponseHeaders{}), // Retry-After is ours, and nobody plans by the others
		httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) { WriteError(w, r, ErrTooMany.After(again)) }),
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

// ByAddress limits how often a client's network may ask, where that is known.
func (l Rate) ByAddress() func(http.Handler) http.Handler {
	return l.of(func(r *http.Request) string { return ClientNetwork(r.Context()) })
}

// ByCaller limits how often the holder of a verified token may ask. It belongs behind [Require].
func (l Rate) ByCaller() func(http.Handler) http.Handler {
	return l.of(func(r *http.Request) string {
		claims, _ := Caller(r.Context())
		return claims.Subject
	})
}
