// Package tracingtest gives tests a tracer whose spans they can look at. Call [New]. Only tests may
// import it.
package tracingtest

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/example/pillion/internal/tracing"
)

// New returns a Tracer that samples everything, and what it has recorded.
func New() (*tracing.Tracer, *tracetest.SpanRecorder) {
	return Sampling(sdktrace.ParentBased(sdktrace.AlwaysSample()))
}

// Sampling returns a Tracer with a sampler, and what it has recorded.
func Sampling(s sdktrace.Sampler) (*tracing.Tracer, *tracetest.SpanRecorder) {
	spans := tracetest.NewSpanRecorder()
	provider := func(s sdktrace.Sampler) *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(s))
	}
	return tracing.New(provider(s), provider(sdktrace.AlwaysSample())), spans
}
