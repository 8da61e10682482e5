package otlp

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A slow collector takes each batch after a time.
type slow struct {
	each  time.Duration
	taken atomic.Int64
}

func (s *slow) ExportSpans(_ context.Context, batch []sdktrace.ReadOnlySpan) error {
	<-time.After(s.each)
	s.taken.Add(int64(len(batch)))
	return nil
}

func (s *slow) Shutdown(context.Context) error { return nil }

// A program waits for a collector that is slow, and not for one that takes nothing.
func TestSlowCollector(t *testing.T) {
	for _, c := range []struct {
		name string
		each time.Duration
		want int64
		err  error
	}{
		{"slow", flushPatience * 9 / 10, 5, nil},
		{"too slow", flushPatience * 11 / 10, 0, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				collector := &slow{each: c.each}
				out := &exporter{SpanExporter: collector}
				batches := sdktrace.NewBatchSpanProcessor(out, sdktrace.WithMaxExportBatchSize(1))
				spans := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(batches)).Tracer("test")
				for range 5 {
					_, span := spans.Start(t.Context(), "work")
					span.End()
				}
				if err := out.flush(batches); !errors.Is(err, c.err) || collector.taken.Load() != c.want {
					t.Errorf("%d spans were taken, error %v; want %d, %v", collector.taken.Load(), err, c.want, c.err)
				}
				<-time.After(time.Minute) // the library goes on with the rest
			})
		})
	}
}
