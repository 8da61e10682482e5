package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/token"
)

// A problem is the body of a failure for programs (RFC 9457).
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Code     string `json:"code"`               // for programs, stable
	Instance string `json:"instance,omitempty"` // the request id
	TraceID  string `json:"trace_id,omitempty"`
}

// errTooLong is the answer when the handler's time limit has ended.
var errTooLong = fault.New(fault.Unavailable, "took_too_long", "This took too long.").After(2 * time.Second)

// lookHint tells the client how to find out whether its request took effect, and what to do then.
func lookHint(r *http.Request, f *fault.Error) string {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return "Please try again." // a read has no effect
	case len(r.Header["Idempotency-Key"]) > 0:
		return "Send the same request again with the same Idempotency-Key: it takes effect only once."
	}
	return f.Look
}

// WriteError answers a failed request. err must not be nil. The kind of its fault decides the
// status. The body is the fault's sentence: as plain text without a newline, or as problem JSON if
// the client prefers JSON. A fault of kind Internal is always reported as [fault.ErrInternal].
//
// Behind [NewRouter], WriteError logs the cause of every answer of 500 or more, with the request
// id: as an error where the fault is ours, and else as a warning, because a crowd can cause those.
// If the answer has begun, it writes nothing.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	rec := recordOf(r.Context())
	if f.Kind == fault.Internal && errors.Is(err, context.DeadlineExceeded) && r.Context().Err() != nil {
		f = errTooLong.Unsure(rec.howToLook()).Because(err)
	}
	status := Status(f.Kind)
	if status >= http.StatusInternalServerError {
		// The client left, which has cancelled the work: that is not a failure of the server.
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			status = statusClientGone
		} else {
			level := slog.LevelWarn
			if f.Kind == fault.Internal {
				level = slog.LevelError
			}
			rec.logFailure(r.Context(), level, f.Code, err)
		}
	}
	if rec.answered() {
		return
	}

	code, message, hint := f.Code, f.Message, f.Hint
	if f.Look != "" {
		message += " " + lookHint(r, f)
	}
	if f.Kind == fault.Internal {
		code, message, hint = fault.ErrInternal.Code, fault.ErrInternal.Message, ""
	}
	h := w.Header()
	switch {
	case errors.Is(f, token.ErrInvalid):
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case errors.Is(f, ErrAuthorization):
		h.Set("WWW-Authenticate", `Bearer error="invalid_request"`)
	case f.Kind == fault.Unauthenticated:
		h.Set("WWW-Authenticate", "Bearer")
	}
	if f.RetryAfter > 0 || f.Kind == fault.Unavailable || f.Kind == fault.Exhausted {
		h.Set("Retry-After", retryAfter(f.RetryAfter))
	}
	writeFailure(w, r, status, code, message, hint)
}

// retryAfter returns d in whole seconds (RFC 9110 section 10.2.3), rounded up, at least 1.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// writeFailure answers r with a message, as text or as a problem, which also has the hint, if any.
func writeFailure(w http.ResponseWriter, r *http.Request, status int, code, message, hint string) {
	rec := recordOf(r.Context())
	if rec != nil {
		rec.code = code
	}
	h := w.Header()
	// The handler may have set headers of the answer that it then could not give.
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if accept := r.Header["Accept"]; len(accept) > 0 && prefersJSON(accept) {
		p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: message, Code: code,
			TraceID: tracing.TraceID(r.Context())}
		if hint != "" {
			p.Detail = strings.TrimSuffix(message, ".") + ". " + hint
		}
		if rec != nil {
			p.Instance = rec.id
		}
		if body, err := json.Marshal(p); err == nil { // it cannot fail
			h.Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_, _ = w.Write(body)
			return
		}
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, message)
}

// logFailure logs the cause of a server error. It does nothing outside a router.
func (rec *record) logFailure(ctx context.Context, level slog.Level, code string, err error) {
	if rec == nil || rec.log == nil {
		return
	}
	rec.log.LogAttrs(ctx, level, "request failed",
		slog.String("request_id", rec.id), slog.String("code", code), slog.String("error", err.Error()))
}
