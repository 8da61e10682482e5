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

// A Check says whether something that a service needs is there.
type Check struct {
	Name  string
	Ready func(context.Context) error // nil when it is; it gives up when its context ends
}

// checkTime is how long the checks may take, all together.
const checkTime = time.Second

// OpsHandler serves operators, on an address that clients do not reach: GET /healthz is 200 as long as the process answers at
// all, GET /readyz is 200 "ready" or 503 with a line for each check that fails, GET /metrics has what is in reg, and with profiling
// /debug/pprof/ is there too. What it says of a failing check is meant for operators.
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

// said is what operators are told of a failure: a fault that has no cause is a sentence for them.
func said(err error) string {
	if f, ok := err.(*fault.Error); ok && f.Cause == nil { //nolint:errorlint // one that is wrapped has more to tell
		return f.Message
	}
	return err.Error()
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// failures asks all checks at once and returns a line for each that fails or does not answer in time, in their order.
func failures(ctx context.Context, checks []Check) []string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, c := range checks {
		answers[i] = make(chan error, 1) // so that an answer that nobody waits for any more does not hold its goroutine
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
			lines = append(lines, c.Name+": "+strings.Join(strings.Fields(said(err)), " "))
		}
	}
	return lines
}
