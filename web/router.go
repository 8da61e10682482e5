package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/ration"
	"github.com/example/pillion/internal/tracing"
)

// RouterConfig configures a router. The zero value works, and logs nothing.
type RouterConfig struct {
	Service    string                // the label service of the metrics
	Log        *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // registers the metrics, once a service; nil: not registered
	Tracer     *tracing.Tracer       // makes a span of each request; nil: none
	Now        func() time.Time      // nil: time.Now
	Patience   time.Duration         // time limit of a request, except streams; 0: 10 s
	// how to find out whether a request took effect; empty: by sending it again
	Look string

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is trusted
	Rate           Rate           // requests of one network; zero: no limit
	Origins        []string       // whose pages may read answers, such as https://app.example.com
}

// defaultPatience is the default time limit of a request. It bounds the sum of all retries of a
// handler.
const defaultPatience = 10 * time.Second

// NewRouter returns a router for a service. Each request gets a request id, a span, a line in the
// log, a place in the metrics, and headers that prevent caching. Requests that are refused without
// a valid token get a line a second, which counts the others. A panic is answered with 500. Unknown
// paths and methods are answered with a sentence, and HEAD is served wherever GET is.
//
// It panics, as MustRegister does, if a service is registered twice with one Registerer.
func NewRouter(c RouterConfig) chi.Router {
	r := chi.NewRouter()
	o := &observer{
		log:          c.Log,
		tracer:       c.Tracer,
		look:         c.Look,
		now:          c.Now,
		metrics:      newMetrics(c.Service, c.Registerer, r),
		cacheControl: []string{"no-store"},
		typeOptions:  []string{"nosniff"},
		policy:       []string{"default-src 'none'; frame-ancestors 'none'"},
		transport:    []string{"max-age=31536000"},
	}
	o.log = cmp.Or(o.log, slog.New(slog.DiscardHandler))
	if o.now == nil {
		o.now = time.Now
	}
	if o.patience = c.Patience; o.patience <= 0 {
		o.patience = defaultPatience
	}
	o.addresses = newAddressResolver(c.TrustedProxies, o.log)
	allow, preflight := crossOrigin(c.Origins)
	r.Use(o.observe, allow, c.Rate.ByAddress(), preflight, middleware.GetHead)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed(r))
	return r
}

// ErrNotFound is the answer for an unknown path. Handlers have errors of their own for missing
// resources.
var ErrNotFound = fault.New(fault.NotFound, "no_such_path", "There is nothing at this path.")

func notFound(w http.ResponseWriter, r *http.Request) { WriteError(w, r, ErrNotFound) }

// methods returns the standard methods (RFC 9110, RFC 5789). Clients can invent any number of
// others.
func methods() [9]string {
	return [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace}
}

// methodNotAllowed answers 405 with the methods of the path.
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
		if len(allowed) == 0 { // chi calls this for every unknown method
			notFound(w, r)
			return
		}
		allow := strings.Join(allowed, ", ")
		w.Header().Set("Allow", allow)
		writeFailure(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "This path supports only "+allow+".", "")
	}
}

// An observer logs and measures the requests of a router.
type observer struct {
	log     *slog.Logger
	tracer  *tracing.Tracer
	now     func() time.Time
	metrics *metrics
	refused ration.Lines // about refused strangers

	addresses *addressResolver

	patience time.Duration
	look     string

	// Header values that all answers share, to save allocations.
	cacheControl, typeOptions, policy, transport []string
}

// observe is the outermost middleware.
func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := o.now()
		ctx, span := r.Context(), tracing.Span{}
		if o.tracer != nil {
			ctx, span = o.tracer.Serve(ctx, r, o.addresses.trusts(peerOf(r)))
		}
		rec := &record{ResponseWriter: w, id: requestID(ctx, r.Header["X-Request-Id"]), span: span, log: o.log,
			look: o.look}
		h := w.Header()
		h["Cache-Control"], h["X-Content-Type-Options"], h["Content-Security-Policy"] = o.cacheControl, o.typeOptions,
			o.policy
		if r.TLS != nil { // it has no meaning over plain HTTP (RFC 6797)
			h["Strict-Transport-Security"] = o.transport
		}
		h["X-Request-Id"] = []string{rec.id}
		ctx = context.WithValue(ctx, recordKey{}, rec)
		rec.untimed = ctx
		ctx, cancel := context.WithTimeout(ctx, o.patience)
		defer cancel()
		r = r.WithContext(ctx)
		rec.client = o.addresses.of(r)
		defer o.finish(rec, r, start)
		next.ServeHTTP(rec, r)
	})
}

// requestID returns the client's request id if it is safe to log, and otherwise the id of the trace
// or, without one, a new id.
func requestID(ctx context.Context, headers []string) string {
	if len(headers) == 1 && validRequestID.MatchString(headers[0]) {
		return headers[0]
	}
	if id := tracing.TraceID(ctx); id != "" {
		return id
	}
	return strings.ToLower(rand.Text())
}

var validRequestID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// finish is deferred around a request. It answers a panic, and records the request.
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
		// only a closed connection can still show that the answer is incomplete
		if rec.answered() {
			aborted = true
		} else {
			writeFailure(rec, r, http.StatusInternalServerError, fault.ErrInternal.Code, fault.ErrInternal.Message, "")
		}
	}
	o.record(rec, r, aborted, o.now().Sub(start))
	if aborted {
		panic(http.ErrAbortHandler)
	}
}

// record writes the log line and the metrics of an answered request, and ends its span.
func (o *observer) record(rec *record, r *http.Request, aborted bool, took time.Duration) {
	method, route, status := "other", "unmatched", rec.status
	a := tracing.Answer{Code: rec.code, Aborted: aborted}
	if knownMethod(r.Method) {
		method, a.Method = r.Method, r.Method
	}
	if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" {
		route, a.Route = pattern, pattern
	}
	if status == 0 && !aborted {
		status = http.StatusOK // net/http's status for a handler that writes nothing
	}
	o.metrics.observe(route, method, status, aborted)
	if rec.ended == "" { // the duration of a stream is not a latency
		o.metrics.time(route, method, took)
	}
	a.Status = status
	rec.span.Answer(a)
	level := slog.LevelInfo
	if !peerOf(r).IsValid() { // from inside this process: a simulated city
		level = slog.LevelDebug
	}
	if !o.log.Enabled(r.Context(), level) {
		return
	}
	missed, stranger := 0, !rec.verified && status >= http.StatusBadRequest && status < http.StatusInternalServerError
	if stranger {
		var ok bool
		if missed, ok = o.refused.Next(o.now()); !ok {
			return
		}
	}
	attrs := make([]slog.Attr, 0, 13)
	attrs = append(attrs, slog.String("request_id", rec.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Int64("bytes", rec.bytes),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	if rec.client.IsValid() {
		attrs = append(attrs, slog.String("client", rec.client.String()))
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
	if missed > 0 {
		attrs = append(attrs, slog.Int("unlogged", missed))
	}
	o.log.LogAttrs(r.Context(), level, "request", attrs...)
}

func knownMethod(method string) bool {
	known := methods()
	return slices.Contains(known[:], method)
}
