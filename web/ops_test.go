package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

func TestOps(t *testing.T) {
	ready := func(context.Context) error { return nil }
	reg := prometheus.NewRegistry()
	events := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "pillion", Name: "events_total", Help: "Events."})
	reg.MustRegister(events)
	events.Inc()
	failing := []web.Check{
		{"nats", func(context.Context) error { return fault.New(fault.Unavailable, "away", "NATS is away.") }},
		{"board", ready},
		{"ledger", func(context.Context) error { return errors.New("two\nlines") }},
		{"clock", func(context.Context) error {
			return fault.New(fault.Unavailable, "off", "It is off.").Because(errors.New("by an hour"))
		}},
	}
	for _, c := range []struct {
		method, path string
		checks       []web.Check
		profiling    bool
		status       int
		body         string // exactly, or its part after ~
	}{
		{"GET", "/healthz", failing, false, 200, "ok"},
		{"HEAD", "/healthz", failing, false, 200, "~"},
		{"POST", "/healthz", failing, false, 405, "~"},
		{"GET", "/readyz", nil, false, 200, "ready"},
		{"GET", "/readyz", []web.Check{{"nats", ready}, {"board", ready}}, false, 200, "ready"},
		{"GET", "/readyz", failing, false, 503, "nats: NATS is away.\nledger: two lines\nclock: off: It is off.: by an hour"},
		{"GET", "/metrics", failing, false, 200, "~pillion_events_total 1\n"},
		{"GET", "/metrics", failing, false, 200, "~\npillion_ready{check=\"board\"} 1\npillion_ready{check=\"clock\"} 0\n"},
		{"GET", "/none", nil, false, 404, "~"},
		{"GET", "/debug/pprof/", nil, false, 404, "~"},
		{"GET", "/debug/pprof/cmdline", nil, false, 404, "~"},
		{"GET", "/debug/pprof/heap", nil, false, 404, "~"},
		{"GET", "/debug/pprof/", nil, true, 200, "~goroutine"},
		{"GET", "/debug/pprof/cmdline", nil, true, 200, "~"},
		{"GET", "/debug/pprof/goroutine?debug=1", nil, true, 200, "~TestOps"},
		{"GET", "/debug/pprof/symbol", nil, true, 200, "~num_symbols"},
		{"GET", "/debug/pprof/trace?seconds=0.001", nil, true, 200, "~"},
	} {
		got := answer(web.OpsHandler(reg, c.checks, c.profiling), request(c.method, c.path, ""))
		part, isPart := strings.CutPrefix(c.body, "~")
		if got.Code != c.status || isPart && !strings.Contains(got.Body.String(), part) || !isPart &&
			got.Body.String() != c.body {
			t.Errorf("%s %s: %d %.200q, want %d %q", c.method, c.path, got.Code, got.Body, c.status, c.body)
		}
		if got.Header().Get("Cache-Control") != "no-store" || got.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %v", c.method, c.path, got.Header())
		}
	}
}

// A probe is answered in about a second, also when a check hangs.
func TestReadyzDoesNotHang(t *testing.T) {
	synctest.Test(t, testReadyzDoesNotHang)
}

func testReadyzDoesNotHang(t *testing.T) {
	finish := make(chan struct{})
	defer close(finish)
	began := time.Now()
	deadline := make(chan time.Duration, 1)
	checks := []web.Check{
		{"patient", func(ctx context.Context) error {
			at, _ := ctx.Deadline()
			deadline <- at.Sub(began)
			<-ctx.Done()
			return ctx.Err()
		}},
		{"deaf", func(context.Context) error {
			<-finish
			return nil
		}},
		{"quick", func(context.Context) error { return nil }},
	}
	got := answer(web.OpsHandler(prometheus.NewRegistry(), checks, false), request("GET", "/readyz", ""))
	if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "patient: ") ||
		!strings.Contains(got.Body.String(), "deaf: ") || strings.Contains(got.Body.String(), "quick: ") {
		t.Errorf("%d %q", got.Code, got.Body)
	}
	if d := <-deadline; d != time.Second {
		t.Errorf("a check gets %v", d)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the answer took %v", took)
	}
}
