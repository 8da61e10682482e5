package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// What a request without a usable credential is told.
var (
	// ErrNoAuthorization has the original API's sentence.
	ErrNoAuthorization = fault.New(fault.Unauthenticated, "missing_authorization", "Missing Authorization header")
	// ErrNotBearer is for a header that is there and carries no bearer token.
	ErrNotBearer = fault.New(fault.Unauthenticated, "not_bearer", "Authorization must be: Bearer <token>")
	// ErrAuthorization is for a header that can be read in more than one way.
	ErrAuthorization = fault.New(fault.Malformed, "malformed_authorization",
		"Send exactly one Authorization header, with exactly one token: Bearer <token>")
	// ErrWrongRole is returned with the sentence of the route.
	ErrWrongRole = fault.New(fault.Forbidden, "wrong_role", "Your role does not allow this.")
)

// A TokenVerifier says what a token claims, or why it must not be believed.
type TokenVerifier interface {
	// Verify returns token.ErrInvalid for a token that does not verify now, and token.ErrNoKeys where it cannot be judged.
	Verify(ctx context.Context, raw string) (token.Claims, error)
}

var _ TokenVerifier = (*token.Verifier)(nil)

// Require lets only requests pass that carry a token of the given role that verifies; others are told sentence. Behind it,
// [Caller] returns the token. A token is taken from the Authorization header and from nowhere else (RFC 6750 section 2.1).
//
// It answers ErrNoAuthorization, ErrNotBearer, ErrAuthorization, ErrWrongRole, and what v returns.
func Require(v TokenVerifier, role token.Role, sentence string) func(http.Handler) http.Handler {
	return RequireAny(v, sentence, role)
}

// RequireAny is [Require] for a token of any of several roles.
func RequireAny(v TokenVerifier, sentence string, roles ...token.Role) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if recordOf(r.Context()) == nil { // outside of a router
				rec := &record{ResponseWriter: w}
				w, r = rec, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
			}
			if _, err := Identify(v, r, sentence, roles...); err != nil {
				WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Identify is [RequireAny] for a handler that takes other credentials as well: it returns what the
// token of r claims, or the error that RequireAny would have answered. Behind a router, [Caller]
// returns the token from then on, also where only its role is wrong.
func Identify(v TokenVerifier, r *http.Request, sentence string, roles ...token.Role) (token.Claims, error) {
	raw, err := bearer(r.Header["Authorization"])
	if err != nil {
		return token.Claims{}, err
	}
	claims, err := v.Verify(r.Context(), raw)
	if err != nil {
		return token.Claims{}, err
	}
	if rec := recordOf(r.Context()); rec != nil {
		rec.verified, rec.claims, rec.raw = true, claims, raw
	}
	if !slices.Contains(roles, claims.Role) {
		return token.Claims{}, ErrWrongRole.Saying(sentence)
	}
	return claims, nil
}

// Unless lets requests pass while why returns nil, and answers others with what it returns. A nil why lets all of them pass.
func Unless(why func() error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if why == nil {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := why(); err != nil {
				WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Caller returns who makes the request, and the token that proves it: what [Require] verified. Both are zero elsewhere. The
// token is a credential: pass it on, never log it.
func Caller(ctx context.Context) (claims token.Claims, raw string) {
	if rec := recordOf(ctx); rec != nil && rec.verified {
		return rec.claims, rec.raw
	}
	return token.Claims{}, ""
}

// bearer returns the token of the Authorization headers of a request. It refuses what two readers could understand differently
// (RFC 9110 section 11.6.2 allows one header with one credential) rather than choose.
func bearer(headers []string) (string, error) {
	switch {
	case len(headers) == 0:
		return "", ErrNoAuthorization
	case len(headers) > 1 || strings.Contains(headers[0], "\t"):
		return "", ErrAuthorization
	}
	scheme, raw, _ := strings.Cut(strings.Trim(headers[0], " "), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrNotBearer
	}
	raw = strings.TrimLeft(raw, " ")
	switch {
	case raw == "":
		return "", ErrNotBearer
	case strings.IndexByte(raw, ' ') >= 0 || strings.IndexByte(raw, ',') >= 0: // five times as fast here as ContainsAny
		return "", ErrAuthorization
	}
	return raw, nil
}
