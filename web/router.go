package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"

	"github.com/example/pillion/internal/fault"
)

// RouterConfig is what a router needs to know. Its zero value works, and is silent.
type RouterConfig struct {
	Service    string                // the label "service" of the metrics
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // takes the metrics, once a service; nil leaves them unregistered
	Now        func() time.Time      // nil: time.Now
	Patience   time.Duration         // how long a request may take to be answered; 0: 10 s. Streams go on for as long as they like
	Look       string                // how a client finds out what was done where the answer cannot say; empty: it may send it again

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is believed; none: nobody's
	Rate           Rate           // how often one client's network may ask; zero: as often as it likes
}

// defaultPatience is how long handlers have. What they do one after the other may each be tried for a while; whoever asked waits for all of it, and
// somebody else may be able to answer.
const defaultPatience = 10 * time.Second

// NewRouter returns a router for one service. Whatever is routed in it has a request id, leaves one line in the log and its mark
// in the metrics, answers 500 when it panics, and is not kept by caches. Paths that are not there and methods they do not take
// are answered in a sentence, and HEAD is answered where GET is.
//
// It panics, as MustRegister does, when the same service is registered twice with one Registerer.
func NewRouter(c RouterConfig) chi.Router {
	o := &observer{
		log:          c.Log,
		look:         c.Look,
		now:          c.Now,
		metrics:      newMetrics(c.Service, c.Registerer),
		cacheControl: []string{"no-store"},
		typeOptions:  []string{"nosniff"},
		policy:       []string{"default-src 'none'; frame-ancestors 'none'"},
		transport:    []string{"max-age=31536000"},
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.patience = c.Patience; o.patience <= 0 {
		o.patience = defaultPatience
	}
	r := chi.NewRouter()
	r.Use(clientAddress(c.TrustedProxies, o.log), o.observe, c.Rate.ByAddress(), middleware.GetHead)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed(r))
	return r
}

// errNotFound is about a path; what is missing behind a path has errors of its own.
var errNotFound = fault.New(fault.NotFound, "no_such_path", "There is nothing at this address.")

func notFound(w http.ResponseWriter, r *http.Request) { WriteError(w, r, errNotFound) }

// methods returns those that HTTP and PATCH define (RFC 9110, RFC 5789). Any other is a client's invention, without bound.
func methods() [9]string {
	return [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace}
}

// methodNotAllowed answers 405 with the methods that routes has for the path.
func methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if r.URL.RawPath != "" {
			path = r.URL.RawPath
		}
		var allowed []string
		for _, method := range methods() {
			get := method == http.MethodHead && routes.Match(chi.NewRouteContext(), http.MethodGet, path)
			if get || routes.Match(chi.NewRouteContext(), method, path) {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 { // chi comes here with any method that it does not know
			notFound(w, r)
			return
		}
		allow := strings.Join(allowed, ", ")
		w.Header().Set("Allow", allow)
		writeFailure(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "This address takes "+allow+" only.")
	}
}

// An observer stands around every request of a router.
type observer struct {
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	patience time.Duration
	look     string

	// Header values that are the same in every answer; nobody changes them in place.
	cacheControl, typeOptions, policy, transport []string
}

// observe is the outermost middleware.
func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := o.now()
		rec := &record{ResponseWriter: w, id: requestID(r.Header["X-Request-Id"]), log: o.log, look: o.look}
		h := w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"], h["Content-Security-Policy"] = o.cacheControl, o.typeOptions, o.policy
		if r.TLS != nil { // over plain HTTP it means nothing (RFC 6797)
			h["Strict-Transport-Security"] = o.transport
		}
		h["X-Request-Id"] = []string{rec.id}
		ctx := context.WithValue(r.Context(), recordKey{}, rec)
		if len(r.Header["Traceparent"]) > 0 { // whose events will carry it on
			ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		}
		rec.untimed = ctx
		ctx, cancel := context.WithTimeout(ctx, o.patience)
		defer cancel()
		r = r.WithContext(ctx)
		defer o.finish(rec, r, start)
		next.ServeHTTP(rec, r)
	})
}

// requestID returns the client's id where it is one that can stand in a log, and else a new one.
func requestID(headers []string) string {
	if len(headers) == 1 && validRequestID(headers[0]) {
		return headers[0]
	}
	return strings.ToLower(rand.Text())
}

func validRequestID(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// finish is deferred around a request: it turns a panic into an answer, and leaves the line in the log.
func (o *observer) finish(rec *record, r *http.Request, start time.Time) {
	panicked := recover()
	aborted := false
	switch {
	case panicked == nil:
	case panicked == any(http.ErrAbortHandler):
		aborted = true
	default:
		o.log.LogAttrs(r.Context(), slog.LevelError, "request panicked", slog.String("request_id", rec.id),
			slog.String("panic", fmt.Sprint(panicked)), slog.String("stack", string(debug.Stack())))
		if rec.answered() { // a cut connection is the only way left to say that the answer is not whole
			aborted = true
		} else {
			writeFailure(rec, r, http.StatusInternalServerError, fault.ErrInternal.Code, fault.ErrInternal.Message)
		}
	}
	o.record(rec, r, aborted, o.now().Sub(start))
	if aborted {
		panic(http.ErrAbortHandler)
	}
}

// record writes the log line and the metrics of a request that has been answered.
func (o *observer) record(rec *record, r *http.Request, aborted bool, took time.Duration) {
	method, route, status := "other", "unmatched", rec.status
	if knownMethod(r.Method) {
		method = r.Method
	}
	if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" {
		route = pattern
	}
	if status == 0 && !aborted {
		status = http.StatusOK // net/http's answer to a handler that writes nothing
	}
	o.metrics.observe(route, method, status, aborted)
	if rec.ended == "" { // how long a stream lasted says nothing of how fast anything is
		o.metrics.time(route, method, took)
	}
	if !o.log.Enabled(r.Context(), slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("request_id", rec.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Int64("bytes", rec.bytes),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	if a := ClientAddress(r.Context()); a.IsValid() {
		attrs = append(attrs, slog.String("client", a.String()))
	}
	if rec.verified {
		attrs = append(attrs, slog.String("sub", rec.claims.Subject))
	}
	if rec.code != "" {
		attrs = append(attrs, slog.String("code", rec.code))
	}
	if rec.ended != "" {
		attrs = append(attrs, slog.String("ended", rec.ended))
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	o.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

func knownMethod(method string) bool {
	known := methods()
	return slices.Contains(known[:], method)
}
