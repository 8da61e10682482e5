package feed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/tracing/tracingtest"
	"github.com/example/pillion/internal/wait"
)

// Watchers learn nothing of a trace: what they are told of an event that has one, and of an offer,
// has the headers of CloudEvents alone, and names no trace.
func TestFeedHasNoTrace(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		tracer, spans := tracingtest.New()
		conn := k.ConnectWith(t, bus.Config{Tracer: tracer})
		told := subscribe(t, k.Connect(t).NATS(), "feed.>")
		known(t, told, conn.NATS(), "feed.hello")
		l := k.LedgerOn(t, conn)
		bustest.Running(t, func(ctx context.Context) error { return publish(ctx, l) })
		desk, user, rider := ledgertest.NewDesk(t, l), k.Person(booking.User), k.Person(booking.Rider)
		b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
		if err == nil {
			err = feed.SendOffer(conn, feed.Offer{Rider: booking.RiderID(rider.ID), Booking: b.ID, Seq: b.Seq, What: "open",
				At: time.Now(), Body: []byte("{}")})
		}
		if err == nil {
			_, err = desk.Accept(t.Context(), rider.Command(), b.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for range 2 + 1 + 3 { // of the request, the offer and the acceptance
			m, err := told.NextMsg(wait.Patience)
			if err != nil {
				t.Fatal(err)
			}
			for name := range m.Header {
				if !strings.HasPrefix(name, "ce-") && name != bus.HeaderContentType {
					t.Errorf("%s has the header %s: %s", m.Subject, name, m.Header[name])
				}
			}
			fmt.Fprintln(&said, m.Subject, m.Header, string(m.Data))
		}
		of := func(name string) bool {
			return slices.ContainsFunc(spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == name })
		}
		for _, event := range []string{"requested", "accepted"} {
			wait.Until(t, event+" was sent and told of in spans", func() bool {
				return of("send ledger.booking.*.*."+event) && of("process ledger.booking.*.*."+event)
			})
		}
		for _, s := range spans.Ended() {
			for _, id := range []string{s.SpanContext().TraceID().String(), s.SpanContext().SpanID().String()} {
				if strings.Contains(said.String(), id) {
					t.Errorf("watchers are told of %s, in %s", s.Name(), said.String())
				}
			}
		}
	})
}
