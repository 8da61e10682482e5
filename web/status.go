package web

import (
	"cmp"
	"net/http"

	"github.com/example/pillion/internal/fault"
)

// statusClientGone is nginx's status for a request whose client has left. It appears in logs and
// metrics only.
const statusClientGone = 499

var statuses = map[fault.Kind]int{
	fault.Malformed:        http.StatusBadRequest,
	fault.Invalid:          http.StatusBadRequest,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.Forbidden:        http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.Conflict:         http.StatusConflict,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fault.Unprocessable:    http.StatusUnprocessableEntity,
	fault.Exhausted:        http.StatusTooManyRequests,
	fault.Unavailable:      http.StatusServiceUnavailable,
}

// Status returns the HTTP status of a kind of failure.
func Status(k fault.Kind) int { return cmp.Or(statuses[k], http.StatusInternalServerError) }
