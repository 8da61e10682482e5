package timers_test

import (
	"slices"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/tracing/tracingtest"
	"github.com/example/pillion/internal/wait"
)

// From an event that only a timer has asked for, the walk goes back to the request: up the tree
// from the event to the work on the timer, by a link to its setting, up to the work on the event
// that has asked for it, and by a link to the sending of that one, which is below the request.
func TestTraceOfATimer(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		tracer, recorder := tracingtest.New()
		l := k.LedgerOn(t, k.ConnectWith(t, bus.Config{Tracer: tracer}))
		desk, err := booking.NewDesk(l, booking.DeskOptions{Deadline: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		instance := newTimingWhile(k, t, l, nil, func(c *booking.ProcessManagerConfig) {
			c.Desk, c.Patience = desk, 5*time.Second
		})

		user, rider, id := k.Person(booking.User), k.Person(booking.Rider), booking.ID(booking.NewID())
		// What is on the board before has no trace there.
		wait.Until(t, "both schedulers hear of bookings", func() bool {
			ledgertest.Booked(t, l, user, time.Hour)
			return works(recorder, bus.ExpiriesConsumer) && works(recorder, bus.ReleasesConsumer)
		})

		// The request is over before its timer goes off.
		ctx, request := tracer.Task(t.Context(), "book")
		if _, err := desk.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		request.End(nil)
		ctx, request = tracer.Task(t.Context(), "accept")
		if _, err := desk.Accept(ctx, rider.Command(), id); err != nil {
			t.Fatal(err)
		}
		request.End(nil)
		wait.Until(t, "the rider has lost the booking, and nobody else has taken it", func() bool {
			return ledgertest.State(t, l, id) == booking.StateExpired
		})
		instance.stop() // then all spans have ended

		for _, c := range []struct{ event, consumer, cause, request string }{
			{"released", bus.ReleasesConsumer, "accepted", "accept"},
			{"expired", bus.ExpiriesConsumer, "released", ""},
		} {
			w := walk{t, recorder.Ended()}
			sent := w.one("send ledger.booking.*.*." + c.event)
			due := w.parent(sent, "process timer.due.*", c.consumer)
			set := w.linked(due, "send timer.set.*")
			asked := w.parent(set, "process ledger.booking.*.*."+c.cause, c.consumer)
			cause := w.linked(asked, "send ledger.booking.*.*."+c.cause)
			if cause != w.linked(sent, cause.Name()) {
				t.Errorf("%s is not linked to the event before it", c.event)
			}
			if c.request != "" {
				w.parent(cause, c.request, "")
			}
		}
	})
}

// works reports whether a consumer has worked on a message.
func works(spans *tracetest.SpanRecorder, consumer string) bool {
	return slices.ContainsFunc(spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return isOf(s, consumer) })
}

func isOf(s sdktrace.ReadOnlySpan, consumer string) bool {
	return slices.Contains(s.Attributes(), semconv.MessagingConsumerGroupName(consumer))
}

// A walk goes along spans.
type walk struct {
	t     *testing.T
	spans []sdktrace.ReadOnlySpan
}

// find returns the span that is as wanted. There must be one.
func (w walk) find(what string, want func(sdktrace.ReadOnlySpan) bool) sdktrace.ReadOnlySpan {
	w.t.Helper()
	found := slices.DeleteFunc(slices.Clone(w.spans), func(s sdktrace.ReadOnlySpan) bool { return !want(s) })
	if len(found) != 1 {
		w.t.Fatalf("%d spans: %s", len(found), what)
	}
	return found[0]
}

// one returns the span of a name.
func (w walk) one(name string) sdktrace.ReadOnlySpan {
	w.t.Helper()
	return w.find(name, func(s sdktrace.ReadOnlySpan) bool { return s.Name() == name })
}

// parent returns the parent of a span, which has a name and is a consumer's.
func (w walk) parent(of sdktrace.ReadOnlySpan, name, consumer string) sdktrace.ReadOnlySpan {
	w.t.Helper()
	return w.find(name+" above "+of.Name(), func(s sdktrace.ReadOnlySpan) bool {
		return s.Name() == name && s.SpanContext().Equal(of.Parent()) &&
			(consumer == "" || isOf(s, consumer))
	})
}

// linked returns the span of a name to which a span is linked.
func (w walk) linked(from sdktrace.ReadOnlySpan, name string) sdktrace.ReadOnlySpan {
	w.t.Helper()
	return w.find(name+" that "+from.Name()+" is linked to", func(s sdktrace.ReadOnlySpan) bool {
		return s.Name() == name && slices.ContainsFunc(from.Links(), func(l sdktrace.Link) bool {
			return l.SpanContext.Equal(s.SpanContext().WithRemote(true))
		})
	})
}
