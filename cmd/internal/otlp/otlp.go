// Package otlp sends the spans of a program to an OpenTelemetry collector.
//
// [Start] reads the standard variables whose names begin with OTEL_, and not more than it must:
// most of them are the library's own. Spans go out in the background, by OTLP over HTTP. A
// collector that is away or slow delays nothing: what does not fit the queue is dropped.
package otlp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/ration"
	"github.com/example/pillion/internal/tracing"
)

const (
	// queueSize is how many spans wait to be sent, some 10 MB, unless OTEL_BSP_MAX_QUEUE_SIZE says
	// otherwise. The library's 2,048 are less than a thousand bookings make.
	queueSize = 8192
	// longestValue is the length of an attribute, in characters, unless
	// OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT says otherwise. Strangers choose the path of a
	// request.
	longestValue = 512
	// flushPatience is how long a program that stops waits for the collector to take one batch of
	// its last spans.
	flushPatience = time.Second
)

// The variables that are not read by the library, or not only.
const (
	envDisabled = "OTEL_SDK_DISABLED"
	envExporter = "OTEL_TRACES_EXPORTER"
	envQueue    = "OTEL_BSP_MAX_QUEUE_SIZE"
)

var (
	envEndpoints = []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}
	envProtocols = []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}
)

// Start returns the tracer of a program, and a function that sends what is left: call it once, at
// the end. Without an endpoint, or where tracing is switched off, the tracer is nil and nothing
// runs. Errors: setting.ErrSetting for each variable that cannot be used.
func Start(name string, log *slog.Logger) (_ *tracing.Tracer, flush func(), err error) {
	if off() {
		return nil, func() {}, nil
	}
	if err := check(); err != nil {
		return nil, nil, err
	}
	report(log)
	ctx := context.Background()
	client, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("make the exporter of spans: %w", err)
	}
	out := &exporter{SpanExporter: client}
	about, err := resource.New(ctx, resource.WithSchemaURL(semconv.SchemaURL), resource.WithAttributes(
		semconv.ServiceName(name), semconv.ServiceVersion(program.Release),
		semconv.ServiceInstanceID(strings.ToLower(rand.Text())),
	), resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil { // the rest of it is there
		log.Warn("spans do not say everything about this program", "error", err)
	}
	var size []sdktrace.BatchSpanProcessorOption
	if get(envQueue) == "" {
		size = append(size, sdktrace.WithMaxQueueSize(queueSize))
	}
	batches := sdktrace.NewBatchSpanProcessor(out, size...)
	limits := sdktrace.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = longestValue
	}
	common := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(batches), sdktrace.WithResource(about),
		sdktrace.WithRawSpanLimits(limits)}
	sampled := sdktrace.NewTracerProvider(common...)
	linked := sdktrace.NewTracerProvider(append(common, sdktrace.WithSampler(sdktrace.AlwaysSample()))...)
	return tracing.New(sampled, linked), func() {
		if err := out.flush(batches); err != nil {
			log.Warn("the last spans were not sent", "error", err)
		}
	}, nil
}

// An exporter sends spans, and knows when a collector has stopped taking them.
type exporter struct {
	sdktrace.SpanExporter
	patience atomic.Pointer[time.Timer] // of flush
}

// ExportSpans sends a batch.
func (e *exporter) ExportSpans(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, batch)
	if t := e.patience.Load(); t != nil && err == nil {
		t.Reset(flushPatience)
	}
	return err
}

// flush sends what is left in the processor before e, and ends that. It gives up when the collector
// has taken nothing for flushPatience.
func (e *exporter) flush(p sdktrace.SpanProcessor) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := time.AfterFunc(flushPatience, cancel)
	defer t.Stop()
	e.patience.Store(t)
	return p.Shutdown(ctx)
}

// off reports whether nothing is to be sent.
func off() bool {
	return get(envEndpoints...) == "" || strings.EqualFold(get(envDisabled), "true") || get(envExporter) == "none"
}

// check returns what is wrong with the variables. It quotes no URL, because it may contain a
// password.
func check() error {
	var wrong []error
	refuse := func(name, must string) {
		wrong = append(wrong, setting.ErrSetting.Sayingf("%s must %s.", name, must))
	}
	for _, name := range envEndpoints {
		u, err := url.Parse(get(name))
		if get(name) != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			refuse(name, "look like http://host:4318")
		}
	}
	for _, name := range envProtocols {
		if p := get(name); p != "" && p != "http/protobuf" {
			refuse(name, "be http/protobuf: no other protocol is spoken")
		}
	}
	if e := get(envExporter); e != "" && e != "otlp" {
		refuse(envExporter, "be otlp or none")
	}
	return errors.Join(wrong...)
}

// get returns the first of the variables that is set.
func get(names ...string) string {
	for _, name := range names {
		if v := strings.TrimSpace(os.Getenv(name)); v != "" { //nolint:forbidigo // this is cmd
			return v
		}
	}
	return ""
}

// report writes the library's troubles to the log, one a second at most: a collector that is away
// makes many.
func report(log *slog.Logger) {
	var lines ration.Lines
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if missed, ok := lines.Next(time.Now()); ok {
			log.Warn("spans cannot be sent, or not all of them", "error", err, "unlogged", missed)
		}
	}))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
}
