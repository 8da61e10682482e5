package web

import (
	"context"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/example/pillion/internal/fault"
)

// A Check tests one dependency of a service.
type Check struct {
	Name  string
	Ready func(context.Context) error // returns nil when ready; returns when its context ends
}

// checkTimeout bounds the checks of one request, which run concurrently.
const checkTimeout = time.Second

// OpsHandler serves operators, on an address that clients cannot reach. GET /healthz answers 200
// while the process runs. GET /readyz answers 200 "ready", or 503 with a line for each failed
// check. GET /metrics serves reg, and pillion_ready, which runs the checks. With profiling,
// /debug/pprof/ is served too. The lines of /readyz may contain internal details.
func OpsHandler(reg *prometheus.Registry, checks []Check, profiling bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		var failing []string
		for i, err := range run(r.Context(), checks) {
			if err != nil {
				failing = append(failing, checks[i].Name+": "+strings.Join(strings.Fields(describe(err)), " "))
			}
		}
		if len(failing) > 0 {
			writeText(w, http.StatusServiceUnavailable, strings.Join(failing, "\n"))
			return
		}
		writeText(w, http.StatusOK, "ready")
	})
	ready := prometheus.NewRegistry()
	ready.MustRegister(readiness(checks))
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{reg, ready}, promhttp.HandlerOpts{}))
	if profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // go tool pprof posts addresses
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// describe returns what operators read about a failed check. A fault without a cause is described
// by its sentence.
func describe(err error) string {
	if f, ok := err.(*fault.Error); ok && f.Cause == nil { //nolint:errorlint // a wrapping error says more
		return f.Message
	}
	return err.Error()
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// run runs all checks concurrently and returns their errors, in their order. A check that does not
// return in time has failed.
func run(ctx context.Context, checks []Check) []error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, c := range checks {
		answers[i] = make(chan error, 1) // buffered, so that a late answer does not block
		go func() { answers[i] <- c.Ready(ctx) }()
	}
	errs := make([]error, len(checks))
	for i := range checks {
		select {
		case errs[i] = <-answers[i]:
		case <-ctx.Done():
			select {
			case errs[i] = <-answers[i]: // both were ready
			default:
				errs[i] = context.Cause(ctx)
			}
		}
	}
	return errs
}

// readiness is the checks as a metric. Each scrape runs them.
type readiness []Check

var readyDesc = prometheus.NewDesc("pillion_ready",
	"1 for each check of /readyz that passes, and 0 for those that make the process unready.", []string{"check"}, nil)

// Describe implements prometheus.Collector.
func (r readiness) Describe(to chan<- *prometheus.Desc) { to <- readyDesc }

// Collect implements prometheus.Collector.
func (r readiness) Collect(to chan<- prometheus.Metric) {
	for i, err := range run(context.Background(), r) {
		passes := 1.0
		if err != nil {
			passes = 0
		}
		to <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, passes, r[i].Name)
	}
}
