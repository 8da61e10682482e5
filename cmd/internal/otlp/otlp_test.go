package otlp_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/cmd/internal/otlp"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"

func TestOff(t *testing.T) {
	for _, env := range [][]string{
		{endpoint, ""}, {endpoint, "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "TRUE"},
		{endpoint, "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "none"},
	} {
		t.Run(strings.Join(env, " "), func(t *testing.T) {
			for i := 0; i < len(env); i += 2 {
				t.Setenv(env[i], env[i+1])
			}
			tracer, flush, err := otlp.Start("test", slog.New(slog.DiscardHandler))
			if tracer != nil || err != nil {
				t.Errorf("%v %v", tracer, err)
			}
			flush()
		})
	}
}

// All wrong variables are reported together, and no password is shown.
func TestWrongSettings(t *testing.T) {
	t.Setenv(endpoint, "collector:4318/hunter2")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	_, _, err := otlp.Start("test", slog.New(slog.DiscardHandler))
	if !errors.Is(err, setting.ErrSetting) || strings.Count(err.Error(), " must ") != 3 ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// What was recorded is sent at the end, and a collector that is away is said once.
func TestFlush(t *testing.T) {
	for _, c := range []struct {
		name, ratio string
		status      int
		want        int64
		says        int
	}{
		{"all", "1", http.StatusOK, 1, 0},
		{"none", "0", http.StatusOK, 0, 0},
		{"refused", "1", http.StatusBadRequest, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got atomic.Int64
			collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if b, err := io.ReadAll(r.Body); err == nil && r.URL.Path == "/v1/traces" && strings.Contains(string(b), "the work") {
					got.Add(1)
				}
				w.WriteHeader(c.status)
			}))
			defer collector.Close()
			t.Setenv(endpoint, collector.URL)
			t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", c.ratio)
			var j wait.Journal
			tracer, flush, err := otlp.Start("test", j.Logger())
			if err != nil {
				t.Fatal(err)
			}
			ctx, span := tracer.Task(t.Context(), "the work")
			span.End(nil)
			flush()
			if got.Load() != c.want || len(tracing.TraceID(ctx)) != 32 {
				t.Errorf("%d requests with the span, want %d", got.Load(), c.want)
			}
			if lines := j.Lines(t, "spans cannot be sent, or not all of them"); len(lines) != c.says {
				t.Errorf("the log: %s", j.String())
			}
		})
	}
}
