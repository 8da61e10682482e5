package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/example/pillion/internal/wait"
)

// A collector receives spans as OTLP over HTTP.
type collector struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	spans []span
}

// A span is what a collector has received of one.
type span struct {
	*tracepb.Span
	service, instance string
	attributes        map[string]string
}

// newCollector starts a collector, which the test stops.
func newCollector(t *testing.T) *collector {
	c := &collector{t: t}
	server := httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *collector) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range sent.ResourceSpans {
		of := attributesOf(resource.Resource.Attributes)
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, span{s, of["service.name"], of["service.instance.id"], attributesOf(s.Attributes)})
			}
		}
	}
}

func attributesOf(all []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		default:
			m[a.Key] = fmt.Sprint(a.Value)
		}
	}
	return m
}

// all returns the received spans that are as wanted.
func (c *collector) all(want func(span) bool) (found []span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if want(s) {
			found = append(found, s)
		}
	}
	return found
}

// one waits for a span that is as wanted, and fails the test if there are several.
func (c *collector) one(what string, want func(span) bool) (found span) {
	c.t.Helper()
	wait.Until(c.t, "the collector has a span: "+what, func() bool {
		all := c.all(want)
		if len(all) > 1 {
			c.t.Fatalf("%d spans: %s", len(all), what)
		}
		if len(all) == 1 {
			found = all[0]
		}
		return len(all) == 1
	})
	return found
}

func (s span) trace() string { return hex.EncodeToString(s.TraceId) }

// under reports whether s is a child of another span.
func (s span) under(parent span) bool {
	return bytes.Equal(s.ParentSpanId, parent.SpanId) && bytes.Equal(s.TraceId, parent.TraceId)
}

// follows reports whether s begins a trace, and is linked to another span.
func (s span) follows(other span) bool { return len(s.ParentSpanId) == 0 && s.leads(other) }

// leads reports whether s is linked to another span.
func (s span) leads(to span) bool {
	return slices.ContainsFunc(s.Links, func(l *tracepb.Span_Link) bool {
		return bytes.Equal(l.SpanId, to.SpanId) && bytes.Equal(l.TraceId, to.TraceId)
	})
}
