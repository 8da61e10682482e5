package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/tracing/tracingtest"
	"github.com/example/pillion/internal/wait"
)

// named returns the spans of a name that have ended, when there are some.
func named(t *testing.T, spans *tracetest.SpanRecorder, name string) (found []sdktrace.ReadOnlySpan) {
	t.Helper()
	wait.Until(t, "there is a span: "+name, func() bool {
		found = slices.DeleteFunc(spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != name })
		return len(found) > 0
	})
	return found
}

// leads reports whether one of the links of a span leads to another span.
func leads(from, to sdktrace.ReadOnlySpan) bool {
	return slices.ContainsFunc(from.Links(), func(l sdktrace.Link) bool {
		return l.SpanContext.Equal(to.SpanContext().WithRemote(true))
	})
}

// An append is a span that its message names. The pass over it, the next append and each reader of
// the booking are linked to that. A replay is one span, and so is a rebuild.
func TestTrace(t *testing.T) {
	t.Parallel()
	k := ledgertest.New(t, bustest.Run(t))
	tracer, spans := tracingtest.New()
	var epoch trust.Epoch
	l, err := ledger.Open(k.ConnectWith(t, bus.Config{Tracer: tracer}), ledger.Options{Source: "/test",
		Tokens: k.Auth.Verifier(), Epoch: &epoch})
	if err != nil {
		t.Fatal(err)
	}
	desk, user, rider := ledgertest.NewDesk(t, l), k.Person(booking.User), k.Person(booking.Rider)
	old := ledgertest.NewDesk(t, k.Ledger(t)) // without tracing
	book := func(d *booking.Desk) booking.ID {
		b, err := d.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
		if err != nil {
			t.Fatal(err)
		}
		return b.ID
	}
	book(old)
	board, _ := ledgertest.Follow(t, l)
	read := func(name string, messages int64) {
		t.Helper()
		all := named(t, spans, name)
		if a := all[0].Attributes(); len(all) != 1 || len(a) != 1 || a[0].Value.AsInt64() != messages {
			t.Errorf("%d spans %s, with %v, want %d messages", len(all), name, a, messages)
		}
	}
	read("replay the ledger", 1)

	id := book(desk)
	wait.Until(t, "the board has both", func() bool { return board.Len() == 2 })
	requested := named(t, spans, "send ledger.booking.*.*.requested")
	pass := named(t, spans, "process ledger.booking.*.*.requested")
	if len(requested) != 1 || len(pass) != 1 || !leads(pass[0], requested[0]) {
		t.Fatalf("%d spans of sending, %d of the pass", len(requested), len(pass))
	}
	if _, err := desk.Accept(t.Context(), rider.Command(), id); err != nil {
		t.Fatal(err)
	}
	accepted := named(t, spans, "send ledger.booking.*.*.accepted")
	if len(accepted) != 1 || !leads(accepted[0], requested[0]) {
		t.Errorf("accepted is linked to %v", accepted[0].Links())
	}
	ctx, span := tracer.Task(t.Context(), "look")
	if _, err := desk.Show(ctx, id); err != nil {
		t.Fatal(err)
	}
	span.End(nil)
	if look := named(t, spans, "look"); !leads(look[0], accepted[0]) {
		t.Errorf("a reader of the booking is linked to %v", look[0].Links())
	}
	// A build that knows nothing of traces reads it, and goes on.
	if b, err := old.Cancel(t.Context(), user.Command(), id, ""); err != nil || b.State != booking.StateCancelled {
		t.Errorf("cancel without tracing: %v %v", b.State, err)
	}
	last, err := l.LastSequence(t.Context())
	if err != nil || board.Await(t.Context(), last) != nil {
		t.Fatal("the board does not get there")
	}
	epoch.Advance()
	read("rebuild the board", int64(last))
}

// An answer that rests on an event of another request is linked to it: that of a retry, of a loser,
// and of a command for what is done already.
func TestAnswersAreLinked(t *testing.T) {
	t.Parallel()
	k := ledgertest.New(t, bustest.Run(t))
	tracer, spans := tracingtest.New()
	// Each request is answered by an instance of its own, which has nothing in memory.
	request := func(name string, do func(context.Context, *booking.Desk) error) sdktrace.ReadOnlySpan {
		t.Helper()
		desk := ledgertest.NewDesk(t, k.LedgerOn(t, k.ConnectWith(t, bus.Config{Tracer: tracer})))
		ctx, span := tracer.Task(t.Context(), name)
		if err := do(ctx, desk); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		span.End(nil)
		return named(t, spans, name)[0]
	}
	user, other, rider := k.Person(booking.User), k.Person(booking.User), k.Person(booking.Rider)
	id, books, accepts := booking.ID(booking.NewID()), user.Command(), rider.Command()
	book := func(ctx context.Context, d *booking.Desk) error {
		_, err := d.Book(ctx, books, id, booking.Trip{})
		return err
	}
	accept := func(ctx context.Context, d *booking.Desk) error {
		_, err := d.Accept(ctx, accepts, id)
		return err
	}

	first := request("book", book)
	requested := named(t, spans, "send ledger.booking.*.*.requested")[0]
	if len(first.Links()) != 0 {
		t.Errorf("the first request is linked to %v", first.Links())
	}
	for _, c := range []struct {
		name string
		do   func(context.Context, *booking.Desk) error
	}{
		{"book again", book},
		{"book under an id that is taken", func(ctx context.Context, d *booking.Desk) error {
			if _, err := d.Book(ctx, other.Command(), id, booking.Trip{}); !errors.Is(err, booking.ErrKeyReused) {
				return fmt.Errorf("it is answered with %w", err)
			}
			return nil
		}},
	} {
		if s := request(c.name, c.do); !leads(s, requested) {
			t.Errorf("%s: linked to %v", c.name, s.Links())
		}
	}
	request("accept", accept)
	accepted := named(t, spans, "send ledger.booking.*.*.accepted")[0]
	for name, do := range map[string]func(context.Context, *booking.Desk) error{
		"accept again": accept,
		"accept by another command": func(ctx context.Context, d *booking.Desk) error {
			_, err := d.Accept(ctx, rider.Command(), id)
			return err
		},
		"book again, later": book, // and from accepted a link leads to requested
	} {
		if s := request(name, do); !leads(s, accepted) {
			t.Errorf("%s: linked to %v", name, s.Links())
		}
	}
}

// What a message says of its trace decides nothing: it is an event with any traceparent, and has a
// trace with one that is in order.
func TestStrangeTraces(t *testing.T) {
	t.Parallel()
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	k := ledgertest.New(t, bustest.Run(t))
	conn, user := k.Connect(t), k.Person(booking.User)
	l := k.LedgerOn(t, conn)
	for _, c := range []struct {
		name  string
		lines []string
		trace string
	}{
		{"none", nil, ""},
		{"one", []string{good}, good},
		{"not sampled", []string{good[:53] + "00"}, ""},
		{"two", []string{good, good}, ""},
		{"noise", []string{"noise"}, ""},
		{"much", []string{strings.Repeat("0", 50_000)}, ""},
	} {
		id := booking.ID(booking.NewID())
		ledgertest.Store(t, conn, ledgertest.Message(id, 1, booking.Requested, user.Actor, user.Proof,
			func(m *nats.Msg, _ map[string]any) {
				m.Header["traceparent"], m.Header["tracestate"] = c.lines, []string{"x=y"}
			}))
		h, err := l.Load(t.Context(), id, booking.Fresh)
		if err != nil || len(h.Events) != 1 || h.Trace() != c.trace {
			t.Errorf("%s: %v, %d events, trace %q", c.name, err, len(h.Events), h.Trace())
		}
	}
}
