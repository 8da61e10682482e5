package tracing

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Header is the header of a message that names the span that has sent it (W3C Trace Context).
const Header = "traceparent"

// size is the length of a traceparent of version 00, in bytes. A later version may be longer.
const size = 55

// A Message is what spans say of a message on NATS.
type Message struct {
	Subject  string
	ID       string
	Booking  string // the booking that it is about; "": none or several
	Consumer string // the part of Pillion that works on it: "feed"
	// Began is when the work began that is over when Process is called. Zero: it begins now.
	Began time.Time
}

// attributes returns the attributes of a span. The system is not among the well-known ones, and has
// its own name.
func (m Message) attributes(operation attribute.KeyValue) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"), operation,
		semconv.MessagingOperationName(operation.Value.AsString()),
		semconv.MessagingDestinationName(m.Subject), semconv.MessagingDestinationTemplate(m.template()),
	}
	for _, a := range [...]attribute.KeyValue{
		semconv.MessagingMessageID(m.ID), semconv.MessagingMessageConversationID(m.Booking),
		semconv.MessagingConsumerGroupName(m.Consumer),
	} {
		if a.Value.AsString() != "" {
			attrs = append(attrs, a)
		}
	}
	return attrs
}

// template returns the subject with an asterisk in place of each id and number, so that spans have
// few names.
func (m Message) template() string {
	tokens := strings.Split(m.Subject, ".")
	for i, t := range tokens {
		if len(t) == idLength || strings.Trim(t, "0123456789") == "" {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// idLength is the length of the ids in subjects, in characters.
const idLength = 26

// Send begins the span of storing a message, which follows from the one that the span after has
// sent; "": from none. [Inject] puts the span of the returned context into the message. There is no
// span in a trace that is not sampled.
func (t *Tracer) Send(ctx context.Context, m Message, after string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	if c := trace.SpanContextFromContext(ctx); c.IsValid() && !c.IsSampled() {
		return ctx, Span{} // names and attributes would be for nothing
	}
	return t.start(ctx, "send "+m.template(), after, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(m.attributes(semconv.MessagingOperationTypeSend)...))
}

// Process begins the span of work on a message, in a trace of its own that is linked to the span
// that has sent the message, as [Sent] returns it. There is none if that is "".
func (t *Tracer) Process(ctx context.Context, m Message, sent string) (context.Context, Span) {
	if t == nil || sent == "" {
		return ctx, Span{}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(m.attributes(semconv.MessagingOperationTypeProcess)...)}
	if !m.Began.IsZero() {
		options = append(options, trace.WithTimestamp(m.Began))
	}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return t.start(ctx, "process "+m.template(), sent, options...)
}

// Inject names the span of ctx in the headers of a message, if the span is sampled, and returns
// what [Sent] will find there. Vendors' parts of a trace (tracestate) do not go along: others
// choose them, and a message is kept for long.
func Inject(ctx context.Context, header map[string][]string) (sent string) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	var c carrier
	propagation.TraceContext{}.Inject(ctx, &c)
	header[Header] = []string{c.parent}
	return c.parent
}

// Sent returns the name of the sampled span that has sent a message, or "" if the headers name none
// or not one alone. Whoever may publish chooses it, so it is good for a link and nothing else.
func Sent(header map[string][]string) string {
	lines := header[Header]
	if len(lines) != 1 || !parse(lines[0], "").IsSampled() {
		return ""
	}
	return lines[0]
}

// parse returns the context that a traceparent names, or an invalid one.
func parse(parent, state string) trace.SpanContext {
	if len(parent) != size {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), &carrier{parent, state})
	return trace.SpanContextFromContext(ctx)
}

// A carrier holds one context.
type carrier struct{ parent, state string }

var _ propagation.TextMapCarrier = (*carrier)(nil)

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(key string) string {
	if key == Header {
		return c.parent
	}
	return c.state
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) {
	if key == Header {
		c.parent = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c *carrier) Keys() []string { return []string{Header} }
