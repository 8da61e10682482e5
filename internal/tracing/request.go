package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Serve begins the span of an HTTP request, and returns the context of its work. The trace of a
// trusted caller goes on. Any other caller gets a new trace, which is linked to its own: strangers
// choose no trace, and do not say what is sampled. [Span.Answer] ends the span.
func (t *Tracer) Serve(ctx context.Context, r *http.Request, trusted bool) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	if lines := r.Header["Traceparent"]; len(lines) == 1 {
		theirs := parse(lines[0], "")
		switch {
		case !theirs.IsValid():
		case trusted:
			ctx = trace.ContextWithRemoteSpanContext(ctx, parse(lines[0], r.Header.Get("Tracestate")))
		default:
			options = append(options, trace.WithLinks(trace.Link{SpanContext: theirs}))
		}
	}
	ctx, span := t.sampled.Start(ctx, "HTTP", options...)
	if span.IsRecording() { // most are not sampled
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		span.SetAttributes(semconv.URLScheme(scheme), semconv.URLPath(r.URL.Path))
	}
	return ctx, Span{span}
}

// An Answer is what the span of a request says of its answer.
type Answer struct {
	Method  string // of the request; "": not a standard one
	Route   string // "": there is none
	Status  int    // 0: none was sent
	Code    string // of the error, if any
	Aborted bool   // whether the answer is incomplete
}

// Answer names the span of a request after what was asked for, notes the answer, and ends it.
func (s Span) Answer(a Answer) {
	if s.span == nil || !s.span.IsRecording() {
		return
	}
	defer s.span.End()
	name, method := "HTTP", semconv.HTTPRequestMethodOther
	if a.Method != "" {
		name, method = a.Method, semconv.HTTPRequestMethodKey.String(a.Method)
	}
	attrs := []attribute.KeyValue{method}
	if a.Route != "" {
		name, attrs = name+" "+a.Route, append(attrs, semconv.HTTPRoute(a.Route))
	}
	if a.Status != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(a.Status))
	}
	s.span.SetName(name)
	s.span.SetAttributes(attrs...)
	switch {
	case a.Aborted:
		s.fail("aborted")
	case a.Status >= http.StatusInternalServerError:
		s.fail(a.Code)
	}
}

// TraceID returns the id of the trace that ctx belongs to, in hexadecimal digits, or "".
func TraceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}
