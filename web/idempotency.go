package web

import (
	"net/http"
	"strings"

	"github.com/example/pillion/internal/fault"
)

// ErrIdempotencyKey refuses a malformed Idempotency-Key.
var ErrIdempotencyKey = fault.New(fault.Malformed, "idempotency_key",
	"Idempotency-Key must be sent once, as 1 to 128 visible ASCII characters.")

const maxIdempotencyKey = 128 // characters

// IdempotencyKey returns the request's idempotency key, and whether it has one. The header is a
// quoted string (RFC 8941 section 3.3.3, draft-ietf-httpapi-idempotency-key-header) or the bare
// value, which most clients send: "k" and k are the same key. Errors: ErrIdempotencyKey.
func IdempotencyKey(r *http.Request) (string, bool, error) {
	values := r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return "", false, nil
	}
	if len(values) > 1 {
		return "", false, ErrIdempotencyKey
	}
	key, ok := values[0], true
	if strings.HasPrefix(key, `"`) {
		key, ok = unquote(key)
	}
	unseen := func(r rune) bool { return r <= ' ' || r > '~' }
	if !ok || len(key) < 1 || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, unseen) {
		return "", false, ErrIdempotencyKey
	}
	return key, true, nil
}

// unquote returns the value of a quoted structured-field string, and whether s is a valid one.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}
