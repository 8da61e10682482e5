package web

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/token"
)

// A record holds what the log line and the metrics of a request need. As the ResponseWriter it sees
// the answer pass. It travels in the request's context, so that layers can add to it without
// copying the request.
type record struct {
	http.ResponseWriter
	id      string
	client  netip.Addr // invalid: unknown
	span    tracing.Span
	log     *slog.Logger
	look    string // RouterConfig.Look
	status  int    // 0 until the answer has begun
	bytes   int64  // of the body
	code    string
	untimed context.Context // the request, without the time limit of its handler
	ended   string          // the Ending of a stream; "" for other answers

	verified bool // claims and raw belong to a verified token
	claims   token.Claims
	raw      string
}

type recordKey struct{}

// recordOf returns the record of a request. It is nil outside a router.
func recordOf(ctx context.Context) *record {
	rec, _ := ctx.Value(recordKey{}).(*record)
	return rec
}

// howToLook tells a client how to find out whether an unanswered request took effect.
func (rec *record) howToLook() string {
	if rec == nil || rec.look == "" {
		return "It may have taken effect. Please send it again."
	}
	return rec.look
}

// Unwrap gives http.ResponseController the server's own writer, for flushing and deadlines.
func (rec *record) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader records the status. An informational one (1xx) precedes the answer and does not
// count.
func (rec *record) WriteHeader(status int) {
	if rec.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *record) Write(b []byte) (int, error) {
	rec.status = cmp.Or(rec.status, http.StatusOK)
	n, err := rec.ResponseWriter.Write(b)
	rec.bytes += int64(n)
	return n, err
}

// answered reports whether the answer has begun. A nil record has not seen one.
func (rec *record) answered() bool { return rec != nil && rec.status != 0 }
