package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// The refusals of credentials.
var (
	// ErrNoAuthorization refuses a request without credentials, in the words of the original API.
	ErrNoAuthorization = fault.New(fault.Unauthenticated, "missing_authorization", "Missing Authorization header")
	// ErrNotBearer refuses a header without a bearer token.
	ErrNotBearer = fault.New(fault.Unauthenticated, "not_bearer", "Authorization must be: Bearer <token>")
	// ErrAuthorization refuses an ambiguous header.
	ErrAuthorization = fault.New(fault.Malformed, "malformed_authorization",
		"Send exactly one Authorization header, with exactly one token: Bearer <token>")
	// ErrWrongRole refuses a token of another role, with the sentence of the route.
	ErrWrongRole = fault.New(fault.Forbidden, "wrong_role", "Your role does not allow this.")
)

// A TokenVerifier verifies the tokens of requests.
type TokenVerifier interface {
	// Verify returns the claims of a valid token. Errors: token.ErrInvalid for an invalid token,
	// and others, such as token.ErrNoKeys, while the verifier cannot decide.
	Verify(ctx context.Context, raw string) (token.Claims, error)
}

var _ TokenVerifier = (*token.Verifier)(nil)

// Require passes requests with a valid token of a role, and refuses a token of another role with
// sentence. Behind it, [Caller] returns the token. It reads the token from the Authorization header
// only (RFC 6750 section 2.1).
//
// It answers ErrNoAuthorization, ErrNotBearer, ErrAuthorization, ErrWrongRole, and the errors of v.
func Require(v TokenVerifier, role token.Role, sentence string) func(http.Handler) http.Handler {
	return RequireAny(v, sentence, role)
}

// RequireAny is [Require] for several roles.
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

// Identify is [RequireAny] for a handler that also accepts other credentials: it returns the claims
// of the token of r, or the error that RequireAny would answer. Behind a router, [Caller] returns a
// valid token afterwards, even one of the wrong role.
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

// RejectIf answers a request with the error that check returns, and passes it if check returns nil.
// A nil check passes all requests.
func RejectIf(check func() error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if check == nil {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := check(); err != nil {
				WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Caller returns the claims and the raw token of the caller, whom [Require] has verified. Both are
// zero elsewhere. The raw token is a credential: pass it on, and never log it.
func Caller(ctx context.Context) (claims token.Claims, raw string) {
	if rec := recordOf(ctx); rec != nil && rec.verified {
		return rec.claims, rec.raw
	}
	return token.Claims{}, ""
}

// bearer returns the token in the Authorization headers of a request. It refuses headers that two
// readers could understand differently (RFC 9110 section 11.6.2 allows one header with one
// credential).
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
	// five times as fast as ContainsAny
	case strings.IndexByte(raw, ' ') >= 0 || strings.IndexByte(raw, ',') >= 0:
		return "", ErrAuthorization
	}
	return raw, nil
}
