package web

import (
	"net/http"

	"github.com/example/pillion/internal/fault"
)

// statusClientGone is nginx's status for a request whose client has left. It appears in logs and
// metrics only.
const statusClientGone = 499

// Status returns the HTTP status of a kind of failure.
func Status(k fault.Kind) int {
	switch k {
	case fault.Malformed, fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case fault.Unprocessable:
		return http.StatusUnprocessableEntity
	case fault.Exhausted:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
