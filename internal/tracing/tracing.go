// Package tracing makes the spans of requests and messages, and carries a trace through messages.
//
// Begin with [New]. A nil [Tracer] is tracing that is off: each of its methods returns at once and
// allocates nothing. [Tracer.Serve] begins the span of an HTTP request, [Tracer.Send] that of a
// stored message, [Tracer.Process] that of work on one, and [Tracer.Task] any other. Names and
// attributes are those of OpenTelemetry's semantic conventions 1.43.0. [LogHandler] adds the trace
// to the lines of a log.
//
// Where a message goes, its trace does not go on: what is done with it later, perhaps by many, has
// traces of its own, which are linked to the span that sent it. A reader follows the links.
package tracing

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/example/pillion/internal/fault"
)

// A Tracer makes the spans of a process. It is safe for concurrent use.
type Tracer struct {
	sampled trace.Tracer // samples
	linked  trace.Tracer // records all: others have sampled what these spans are linked to
}

const scope = "github.com/example/pillion"

// New returns a Tracer. Spans that begin a trace are made by sampled, unless they belong to a
// message whose sender was sampled: linked makes these, so that no walk ends on its way.
func New(sampled, linked trace.TracerProvider) *Tracer {
	at := trace.WithSchemaURL(semconv.SchemaURL)
	return &Tracer{sampled: sampled.Tracer(scope, at), linked: linked.Tracer(scope, at)}
}

// A Span is work that is under way. The zero Span is none, and all of its methods do nothing.
type Span struct{ span trace.Span }

// End ends the span, as failed if err is not nil. Of the error it keeps the code alone.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil && s.span.IsRecording() {
		s.fail(codeOf(err))
	}
	s.span.End()
}

// EndOf is [Span.End] of work on many messages.
func (s Span) EndOf(messages uint64, err error) {
	if s.span != nil {
		s.span.SetAttributes(semconv.MessagingBatchMessageCount(int(messages)))
	}
	s.End(err)
}

func (s Span) fail(code string) {
	s.span.SetAttributes(semconv.ErrorTypeKey.String(code))
	s.span.SetStatus(codes.Error, "")
}

// codeOf returns the code of a fault, or what has ended a context.
func codeOf(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return fault.From(err).Code
}

// Task begins the span of work that no request and no message has asked for.
func (t *Tracer) Task(ctx context.Context, name string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := t.sampled.Start(ctx, name, trace.WithNewRoot())
	return ctx, Span{span}
}

// Now returns the time, for [Message].Began, or zero while tracing is off.
func (t *Tracer) Now() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Link links the span of ctx, if any, to the span that has sent a message, as [Sent] returns it.
func Link(ctx context.Context, sent string) {
	if sent == "" {
		return
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddLink(trace.Link{SpanContext: parse(sent, "")})
	}
}

// start begins a span that is linked to the one that has sent a message; "": to none.
func (t *Tracer) start(
	ctx context.Context, name, sent string, options ...trace.SpanStartOption,
) (context.Context, Span) {
	tracer := t.sampled
	if sent != "" {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: parse(sent, "")}))
		if !trace.SpanContextFromContext(ctx).IsValid() {
			tracer = t.linked
		}
	}
	ctx, span := tracer.Start(ctx, name, options...)
	return ctx, Span{span}
}
