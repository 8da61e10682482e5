package web

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/example/pillion/token"
)

// A record is what is known of one request while it is answered: it sees the answer pass, and takes notes for the log line. It
// travels in the request's context, so that each layer adds to it without copying the request again.
type record struct {
	http.ResponseWriter
	id     string
	log    *slog.Logger
	look   string // RouterConfig.Look
	status int    // 0 until the answer is begun
	bytes  int64  // of the answer's body
	code   string
	whole  context.Context // the request's own, which nobody's patience ends
	ended  string          // why a stream has ended; "" for any other answer

	verified bool // claims and raw are those of a verified token
	claims   token.Claims
	raw      string
}

type recordKey struct{}

// recordOf returns the record of a request's context: nil outside of a router.
func recordOf(ctx context.Context) *record {
	rec, _ := ctx.Value(recordKey{}).(*record)
	return rec
}

// howToLook says how to find out whether something was done, where that is not known.
func (rec *record) howToLook() string {
	if rec == nil || rec.look == "" {
		return "It may have been done all the same. Please send it again."
	}
	return rec.look
}

// Unwrap lets http.ResponseController reach the server's own writer, for flushing and deadlines.
func (rec *record) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader notes the status. Informational ones (1xx) precede the answer and are not it.
func (rec *record) WriteHeader(status int) {
	if rec.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *record) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(b)
	rec.bytes += int64(n)
	return n, err
}

// answered reports whether the answer has been begun, as far as that is known.
func (rec *record) answered() bool { return rec != nil && rec.status != 0 }
