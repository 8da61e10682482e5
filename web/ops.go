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
// check. GET /metrics serves reg. With profiling, /debug/pprof/ is served too. The lines of /readyz
// may contain internal details.
func OpsHandler(reg *prometheus.Registry, checks []Check, profiling bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if failing := failures(r.Context(), checks); len(failing) > 0 {
			writeText(w, http.StatusServiceUnavailable, strings.Join(failing, "\n"))
			return
		}
		writeText(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
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

// failures runs all checks concurrently. It returns a line for each that fails or times out, in
// their order.
func failures(ctx context.Context, checks []Check) []string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, c := range checks {
		answers[i] = make(chan error, 1) // buffered, so that a late answer does not block
		go func() { answers[i] <- c.Ready(ctx) }()
	}
	var lines []string
	for i, c := range checks {
		var err error
		select {
		case err = <-answers[i]:
		case <-ctx.Done():
			select {
			case err = <-answers[i]: // both were ready
			default:
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			lines = append(lines, c.Name+": "+strings.Join(strings.Fields(describe(err)), " "))
		}
	}
	return lines
}
