package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/internal/tracing/tracingtest"
	"github.com/example/pillion/internal/wait"
)

// attributes returns the attributes of a span, sorted, one a line.
func attributes(s sdktrace.ReadOnlySpan) string {
	var lines []string
	for _, a := range s.Attributes() {
		lines = append(lines, string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

const (
	theirTrace  = "0af7651916cd43dd8448eb211c80319c"
	theirSpan   = "b7ad6b7169203331"
	traceparent = "00-" + theirTrace + "-" + theirSpan + "-01"
)

// A stranger's trace is linked to, and neither goes on nor decides what is sampled. That of a
// trusted proxy goes on. What is no traceparent is ignored.
func TestServe(t *testing.T) {
	for _, c := range []struct {
		name            string
		sent            []string
		trusted         bool
		sampler         sdktrace.Sampler
		goes, link, rec bool
	}{
		{"nothing", nil, false, sdktrace.AlwaysSample(), false, false, true},
		{"a stranger's", []string{traceparent}, false, sdktrace.AlwaysSample(), false, true, true},
		{"a stranger's that asks to be sampled", []string{traceparent}, false, sdktrace.ParentBased(sdktrace.NeverSample()), false, false, false},
		{"a proxy's", []string{traceparent}, true, sdktrace.ParentBased(sdktrace.NeverSample()), true, false, true},
		{"a proxy's that is not sampled", []string{traceparent[:53] + "00"}, true, sdktrace.ParentBased(sdktrace.AlwaysSample()), true, false, false},
		{"two of a proxy's", []string{traceparent, traceparent}, true, sdktrace.AlwaysSample(), false, false, true},
		{"noise", []string{"noise"}, true, sdktrace.AlwaysSample(), false, false, true},
		{"upper case", []string{strings.ToUpper(traceparent)}, true, sdktrace.AlwaysSample(), false, false, true},
		{"no trace", []string{"00-" + strings.Repeat("0", 32) + "-" + theirSpan + "-01"}, true, sdktrace.AlwaysSample(), false, false, true},
		{"a version that is forbidden", []string{"ff" + traceparent[2:]}, true, sdktrace.AlwaysSample(), false, false, true},
		{"much more", []string{"01" + traceparent[2:] + strings.Repeat("-x", 5000)}, true, sdktrace.AlwaysSample(), false, false, true},
	} {
		tr, spans := tracingtest.Sampling(c.sampler)
		r := httptest.NewRequest("POST", "/book?secret=x", nil)
		for _, line := range c.sent {
			r.Header.Add("Traceparent", line)
		}
		ctx, span := tr.Serve(t.Context(), r, c.trusted)
		id := tracing.TraceID(ctx)
		span.Answer(tracing.Answer{Method: "POST", Route: "/book", Status: 200})
		if len(id) != 32 || (id == theirTrace) != c.goes {
			t.Errorf("%s: the trace is %s", c.name, id)
		}
		ended := spans.Ended()
		if (len(ended) == 1) != c.rec {
			t.Errorf("%s: %d spans are recorded, want it to be %v", c.name, len(ended), c.rec)
		}
		if len(ended) != 1 {
			continue
		}
		links := ended[0].Links()
		if (len(links) == 1) != c.link || c.link && links[0].SpanContext.SpanID().String() != theirSpan {
			t.Errorf("%s: links %v", c.name, links)
		}
		if got := ended[0].Parent().SpanID().String(); (got == theirSpan) != c.goes {
			t.Errorf("%s: the parent is %s", c.name, got)
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		give       tracing.Answer
		name, says string
		failed     bool
	}{
		{tracing.Answer{Method: "GET", Route: "/bookings/{id}", Status: 404, Code: "booking_not_found"}, "GET /bookings/{id}",
			"http.request.method=GET\nhttp.response.status_code=404\nhttp.route=/bookings/{id}\nurl.path=/bookings/x\nurl.scheme=http", false},
		{tracing.Answer{Method: "GET", Status: 404}, "GET",
			"http.request.method=GET\nhttp.response.status_code=404\nurl.path=/bookings/x\nurl.scheme=http", false},
		{tracing.Answer{Route: "/book", Status: 503, Code: "bus_unavailable"}, "HTTP /book",
			"error.type=bus_unavailable\nhttp.request.method=_OTHER\nhttp.response.status_code=503\nhttp.route=/book\nurl.path=/bookings/x\nurl.scheme=http", true},
		{tracing.Answer{Method: "GET", Route: "/book", Aborted: true}, "GET /book",
			"error.type=aborted\nhttp.request.method=GET\nhttp.route=/book\nurl.path=/bookings/x\nurl.scheme=http", true},
	} {
		tr, spans := tracingtest.Sampling(sdktrace.AlwaysSample())
		_, span := tr.Serve(t.Context(), httptest.NewRequest("GET", "/bookings/x?secret=x", nil), false)
		span.Answer(c.give)
		got := spans.Ended()[0]
		if got.Name() != c.name || attributes(got) != c.says || (got.Status().Code == codes.Error) != c.failed ||
			got.SpanKind() != trace.SpanKindServer {
			t.Errorf("%+v is %s %v %v\n%s", c.give, got.SpanKind(), got.Name(), got.Status(), attributes(got))
		}
	}
}

const booking = "abcdefghijklmnopqrstuvwxyz"

// What is done with a message has a trace of its own, which is linked to the span that sent it, and
// is recorded if and only if that is.
func TestMessages(t *testing.T) {
	tr, spans := tracingtest.Sampling(sdktrace.AlwaysSample())
	ctx, request := tr.Serve(t.Context(), httptest.NewRequest("POST", "/book", nil), false)
	message := tracing.Message{Subject: "ledger.booking." + booking + ".1.requested", ID: "e1", Booking: booking}
	ctx, span := tr.Send(ctx, message, "")
	header := map[string][]string{}
	sent := tracing.Inject(ctx, header)
	span.End(nil)
	request.Answer(tracing.Answer{Status: 200})
	if len(sent) != 55 || sent != tracing.Sent(header) || len(header) != 1 {
		t.Fatalf("%q is in %v", sent, header)
	}
	began := time.Now().Add(-time.Minute)
	message.Consumer, message.Began = "pass", began
	// What the sender has sampled is not sampled again.
	other, _ := tracingtest.Sampling(sdktrace.NeverSample())
	reading, readers := tracingtest.Sampling(sdktrace.ParentBased(sdktrace.NeverSample()))
	ctx, span = reading.Process(ctx, message, sent)
	_, next := reading.Send(ctx, message, "")
	next.End(fault.New(fault.Conflict, "moved", "It has moved."))
	span.End(nil)
	if ctx, _ := other.Process(t.Context(), message, ""); tracing.TraceID(ctx) != "" {
		t.Error("there is a span of work on a message without one")
	}

	server, producer := spans.Ended()[1], spans.Ended()[0]
	failed, consumer := readers.Ended()[0], readers.Ended()[1]
	if producer.Parent().SpanID() != server.SpanContext().SpanID() ||
		sent != "00-"+producer.SpanContext().TraceID().String()+"-"+producer.SpanContext().SpanID().String()+"-01" {
		t.Errorf("%s is sent below %v, in %v", sent, server.SpanContext(), producer.Parent())
	}
	if consumer.Parent().IsValid() || consumer.SpanContext().TraceID() == producer.SpanContext().TraceID() ||
		len(consumer.Links()) != 1 || !consumer.Links()[0].SpanContext.Equal(producer.SpanContext().WithRemote(true)) ||
		!consumer.StartTime().Equal(began) {
		t.Errorf("%v is processed in %v since %v, linked to %v", producer.SpanContext(), consumer.SpanContext(),
			consumer.StartTime(), consumer.Links())
	}
	const of = "messaging.destination.name=ledger.booking." + booking + ".1.requested\n" +
		"messaging.destination.template=ledger.booking.*.*.requested\nmessaging.message.conversation_id=" + booking +
		"\nmessaging.message.id=e1\nmessaging.operation.name=%s\nmessaging.operation.type=%[1]s\nmessaging.system=nats"
	if producer.Name() != "send ledger.booking.*.*.requested" || attributes(producer) != fmt.Sprintf(of, "send") ||
		producer.SpanKind() != trace.SpanKindProducer {
		t.Errorf("%s %s\n%s", producer.SpanKind(), producer.Name(), attributes(producer))
	}
	if consumer.Name() != "process ledger.booking.*.*.requested" ||
		attributes(consumer) != "messaging.consumer.group.name=pass\n"+fmt.Sprintf(of, "process") ||
		consumer.SpanKind() != trace.SpanKindConsumer {
		t.Errorf("%s %s\n%s", consumer.SpanKind(), consumer.Name(), attributes(consumer))
	}
	if failed.Status().Code != codes.Error || !slices.Contains(failed.Attributes(), attribute.String("error.type", "moved")) ||
		failed.Parent().SpanID() != consumer.SpanContext().SpanID() {
		t.Errorf("a failed one: %v %v", failed.Status(), failed.Attributes())
	}
}

// An event that nobody has asked for is recorded if the one before it is.
func TestSendAfter(t *testing.T) {
	tr, spans := tracingtest.Sampling(sdktrace.NeverSample())
	_, span := tr.Send(t.Context(), tracing.Message{Subject: "a"}, traceparent)
	span.End(context.DeadlineExceeded)
	if got := spans.Ended(); len(got) != 1 || len(got[0].Links()) != 1 ||
		!slices.Contains(got[0].Attributes(), attribute.String("error.type", "timeout")) {
		t.Errorf("%v", got)
	}
	ctx, span := tr.Send(t.Context(), tracing.Message{Subject: "a"}, "")
	span.End(nil)
	header := map[string][]string{}
	if sent := tracing.Inject(ctx, header); sent != "" || len(header) != 0 || len(spans.Ended()) != 1 {
		t.Errorf("%q is sent in %v, of a span that is not sampled", sent, header)
	}
}

// Headers of stored messages are anybody's: one that is not exactly a sampled traceparent of
// version 00 is none.
func TestSent(t *testing.T) {
	for _, lines := range [][]string{
		nil, {}, {""}, {traceparent, traceparent}, {traceparent[:53] + "00"}, {traceparent + "-x"}, {" " + traceparent[1:]},
		{"01" + traceparent[2:53] + "-0"}, {"ff" + traceparent[2:]}, {strings.Repeat("0", 55)}, {strings.ToUpper(traceparent)},
		{"00-" + strings.Repeat("0", 32) + traceparent[35:]}, {traceparent[:36] + strings.Repeat("0", 16) + "-01"},
		{traceparent[:53] + "ff"}, {strings.Repeat("x", 1<<20)},
	} {
		if got := tracing.Sent(map[string][]string{"traceparent": lines}); got != "" {
			t.Errorf("%.80q is taken for %.80q", lines, got)
		}
	}
	if got := tracing.Sent(map[string][]string{"Traceparent": {traceparent}}); got != "" {
		t.Errorf("another header is taken for %q", got)
	}
	if got := tracing.Sent(map[string][]string{"traceparent": {traceparent}}); got != traceparent {
		t.Errorf("%q is taken for %q", traceparent, got)
	}
}

// Vendors' parts of a trusted trace go on in the process, and not into messages.
func TestTracestateStaysOut(t *testing.T) {
	tr, spans := tracingtest.Sampling(sdktrace.AlwaysSample())
	r := httptest.NewRequest("POST", "/book", nil)
	r.Header.Set("Traceparent", traceparent)
	r.Header.Set("Tracestate", "vendor=value")
	ctx, span := tr.Serve(t.Context(), r, true)
	header := map[string][]string{}
	tracing.Inject(ctx, header)
	span.Answer(tracing.Answer{Status: 200})
	if got := spans.Ended()[0].SpanContext().TraceState().String(); got != "vendor=value" || len(header) != 1 {
		t.Errorf("the state is %q, and the headers are %v", got, header)
	}
}

func TestTask(t *testing.T) {
	tr, spans := tracingtest.Sampling(sdktrace.AlwaysSample())
	ctx, span := tr.Task(t.Context(), "replay the ledger")
	tracing.Link(ctx, traceparent)
	tracing.Link(ctx, "")
	span.EndOf(42, errors.New("broken: hunter2"))
	got := spans.Ended()[0]
	if got.Name() != "replay the ledger" || attributes(got) != "error.type=internal\nmessaging.batch.message_count=42" ||
		len(got.Links()) != 1 || got.Status().Description != "" {
		t.Errorf("%s %v %v\n%s", got.Name(), got.Links(), got.Status(), attributes(got))
	}
}

func TestLogHandler(t *testing.T) {
	var j wait.Journal
	log := slog.New(tracing.LogHandler(slog.NewJSONHandler(&j, nil))).With("service", "test")
	tr, _ := tracingtest.Sampling(sdktrace.NeverSample())
	ctx, _ := tr.Serve(t.Context(), httptest.NewRequest("GET", "/", nil), false)
	log.InfoContext(ctx, "within")
	log.InfoContext(t.Context(), "without")
	if got := j.Lines(t, "within")[0]; got["trace_id"] != tracing.TraceID(ctx) || got["service"] != "test" {
		t.Errorf("%v", got)
	}
	if got := j.Lines(t, "without")[0]; got["trace_id"] != nil {
		t.Errorf("%v", got)
	}
}

// Tracing that is off costs nothing.
func TestOff(t *testing.T) {
	var off *tracing.Tracer
	r := httptest.NewRequest("POST", "/book", nil)
	r.Header.Set("Traceparent", traceparent)
	header := map[string][]string{}
	work := func() {
		ctx, request := off.Serve(t.Context(), r, true)
		ctx, span := off.Send(ctx, tracing.Message{Subject: "a"}, traceparent)
		tracing.Inject(ctx, header)
		tracing.Link(ctx, "")
		span.End(nil)
		ctx, span = off.Process(ctx, tracing.Message{Subject: "a", Began: off.Now()}, traceparent)
		span.End(context.Canceled)
		_, span = off.Task(ctx, "a")
		span.EndOf(1, nil)
		request.Answer(tracing.Answer{Method: "POST", Route: "/book", Status: 200})
	}
	if n := testing.AllocsPerRun(100, work); n != 0 || len(header) != 0 {
		t.Errorf("%v allocations, and %v", n, header)
	}
}
