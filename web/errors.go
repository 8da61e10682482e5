package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A problem is the body of a failure for programs (RFC 9457).
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Code     string `json:"code"`               // what a program may decide on
	Instance string `json:"instance,omitempty"` // the request id, as in the logs
}

// errTooLong is that what a request needs was waited for until patience ended.
var errTooLong = fault.New(fault.Unavailable, "took_too_long", "This took too long.").After(2 * time.Second)

// looking returns how whoever sent r finds out whether what it asks for was done, and how it goes on.
func looking(r *http.Request, f *fault.Error) string {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return "Please try again." // nothing was to be done
	case len(r.Header["Idempotency-Key"]) > 0:
		return "Send the same request again with the same Idempotency-Key: it is not done twice."
	}
	return f.Look
}

// WriteError answers a request that failed with err, which must not be nil. Its fault's kind decides the status, and the body is
// the fault's sentence: as plain text without a newline at its end, or as problem JSON for a client that prefers JSON. What has
// kind Internal is told as [fault.ErrInternal], whatever it says.
//
// The cause of an answer of 500 and more is logged once, with the request id, for requests that came through [NewRouter]. Where
// an answer has been begun already, nothing is written to it.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	rec := recordOf(r.Context())
	if f.Kind == fault.Internal && errors.Is(err, context.DeadlineExceeded) && r.Context().Err() != nil {
		f = errTooLong.Unsure(rec.howToLook()).Because(err)
	}
	status := Status(f.Kind)
	if status >= http.StatusInternalServerError {
		// The client left, and what it waited for was given up: that is nobody's failure.
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			status = statusClientGone
		} else {
			rec.logFailure(r.Context(), f.Code, err)
		}
	}
	if rec.answered() {
		return
	}

	code, message := f.Code, f.Message
	if f.Look != "" {
		message += " " + looking(r, f)
	}
	if f.Kind == fault.Internal {
		code, message = fault.ErrInternal.Code, fault.ErrInternal.Message
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
	writeFailure(w, r, status, code, message)
}

// retryAfter returns d in whole seconds, rounded up and at least 1 (RFC 9110 section 10.2.3 knows no fractions).
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// writeFailure writes a sentence as the answer to r.
func writeFailure(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	rec := recordOf(r.Context())
	if rec != nil {
		rec.code = code
	}
	h := w.Header()
	// A handler may have described the answer that it then could not give.
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if accept := r.Header["Accept"]; len(accept) > 0 && prefersJSON(accept) {
		p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: message, Code: code}
		if rec != nil {
			p.Instance = rec.id
		}
		if body, err := json.Marshal(p); err == nil { // strings and a number: it cannot fail
			h.Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_, _ = w.Write(body) // the client may have left; there is nobody to tell
			return
		}
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, message)
}

// logFailure records the cause of an answer that is our own failure. It does nothing outside of a router.
func (rec *record) logFailure(ctx context.Context, code string, err error) {
	if rec == nil || rec.log == nil {
		return
	}
	rec.log.LogAttrs(ctx, slog.LevelError, "request failed",
		slog.String("request_id", rec.id), slog.String("code", code), slog.String("error", err.Error()))
}
