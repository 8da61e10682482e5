package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/internal/tracing/tracingtest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// traced returns a router that makes spans, with the addresses of httptest as a trusted proxy or
// not.
func traced(j *wait.Journal, proxies ...netip.Prefix) (http.Handler, *tracetest.SpanRecorder) {
	tracer, spans := tracingtest.New()
	r := web.NewRouter(web.RouterConfig{
		Log:    slog.New(tracing.LogHandler(slog.NewJSONHandler(j, nil))),
		Tracer: tracer, TrustedProxies: proxies,
	})
	r.Get("/things/{id}", web.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		switch r.URL.Path {
		case "/things/panic":
			panic("it broke")
		case "/things/missing":
			return fault.New(fault.NotFound, "missing", "There is no such thing.")
		}
		return errors.New("hunter2")
	}))
	return r, spans
}

// The trace of a request is in each line of the log about it, in X-Request-Id unless the client has
// an id of its own, and in problem documents. Sentences stay as they are.
func TestTraceID(t *testing.T) {
	for _, c := range []struct {
		path, accept, id string
		status, lines    int
		body             string // %s is the trace, or the client's id and the trace
	}{
		{"/things/missing", "", "", 404, 1, "There is no such thing."},
		{"/things/missing", "", "r-1", 404, 1, "There is no such thing."},
		{"/things/missing", "application/json", "", 404, 1, `{"type":"about:blank","title":"Not Found","status":404,` +
			`"detail":"There is no such thing.","code":"missing","instance":"%s","trace_id":"%s"}`},
		{"/things/missing", "application/json", "r-1", 404, 1, `{"type":"about:blank","title":"Not Found","status":404,` +
			`"detail":"There is no such thing.","code":"missing","instance":"%s","trace_id":"%s"}`},
		{"/things/broken", "", "", 500, 2, fault.ErrInternal.Message},
		{"/things/panic", "", "", 500, 2, fault.ErrInternal.Message},
		{"/nothing", "", "", 404, 1, "There is nothing at this path."},
	} {
		var j wait.Journal
		r, spans := traced(&j)
		req := request("GET", c.path, "", "X-Forwarded-For", "192.0.2.9")
		if c.accept != "" {
			req.Header.Set("Accept", c.accept)
		}
		if c.id != "" {
			req.Header.Set("X-Request-Id", c.id)
		}
		got := answer(r, req)
		trace := spans.Ended()[0].SpanContext().TraceID().String()
		id, want := c.id, c.body
		if id == "" {
			id = trace
		}
		if strings.Contains(want, "%s") {
			want = fmt.Sprintf(want, id, trace)
		}
		if got.Code != c.status || got.Body.String() != want || got.Header().Get("X-Request-Id") != id {
			t.Errorf("%s: %d %s, of %s in %s", c.path, got.Code, got.Body, got.Header().Get("X-Request-Id"), trace)
		}
		lines := 0
		for line := range strings.Lines(j.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["trace_id"] != trace {
				t.Errorf("%s: %v in %s", c.path, err, line)
			}
			lines++
		}
		if lines != c.lines+1 { // and that the proxy is not named
			t.Errorf("%s: %d lines:\n%s", c.path, lines, j.String())
		}
	}
}

// Only a trusted proxy's trace goes on.
func TestTraceOfAProxy(t *testing.T) {
	for _, c := range []struct {
		proxy string
		goes  bool
	}{{"192.0.2.0/24", true}, {"198.51.100.0/24", false}} {
		var j wait.Journal
		r, spans := traced(&j, netip.MustParsePrefix(c.proxy))
		got := answer(r, request("GET", "/things/missing", "", "Traceparent", traceparent))
		span := spans.Ended()[0]
		id := span.SpanContext().TraceID().String()
		if (id == traceparent[3:35]) != c.goes || (len(span.Links()) == 0) != c.goes ||
			got.Header().Get("X-Request-Id") != id || span.Name() != "GET /things/{id}" {
			t.Errorf("from %s: %s in trace %s, linked to %v", c.proxy, span.Name(), id, span.Links())
		}
	}
}

// Without tracing nothing of a caller's trace goes on, and no answer changes.
func TestNoTrace(t *testing.T) {
	r := web.NewRouter(web.RouterConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	var id string
	r.Get("/", func(_ http.ResponseWriter, r *http.Request) { id = tracing.TraceID(r.Context()) })
	answer(r, request("GET", "/", "", "Traceparent", traceparent))
	if id != "" {
		t.Errorf("the trace is %s", id)
	}
	got := answer(r, request("GET", "/nothing", "", "Accept", "application/json", "Traceparent", traceparent))
	if strings.Contains(got.Body.String(), "trace_id") || len(got.Header().Get("X-Request-Id")) != 26 {
		t.Errorf("%s %s", got.Body, got.Header())
	}
}
