package callout_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A variant is one of several variants to do something, with the time that each run took.
type variant struct {
	name string
	do   func() error
	took []time.Duration
}

// rounds is how often each variant runs before the next one, so that other load on the machine
// affects all of them.
const rounds = 20

// compare runs all variants in turn, and reports the median of each, and its ratio to the one
// before.
func compare(b *testing.B, variants ...*variant) {
	b.Helper()
	for b.Loop() {
		for _, w := range variants {
			for range rounds {
				start := time.Now()
				if err := w.do(); err != nil {
					b.Fatalf("%s: %v", w.name, err)
				}
				w.took = append(w.took, time.Since(start))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	var before time.Duration
	var table strings.Builder
	for _, w := range variants {
		slices.Sort(w.took)
		median := w.took[len(w.took)/2]
		fmt.Fprintf(&table, "\n    %-12s %9.3f ms", w.name, median.Seconds()*1e3)
		if before > 0 {
			fmt.Fprintf(&table, "  x %.2f", median.Seconds()/before.Seconds())
		}
		before = median
		b.ReportMetric(median.Seconds()*1e3, w.name+"-ms")
	}
	b.Log(table.String())
}

// BenchmarkConnect prints the cost of a connection without access control, with a key, with a token
// through the callout, and the same over TLS.
func BenchmarkConnect(b *testing.B) {
	auth := tokentest.New(b)
	open, closed, encrypted := bustest.Run(b), bustest.RunClosed(b, false),
		bustest.Start(b, bustest.Setup{Closed: true, TLS: true})
	closed.RunCallout(b, auth)
	encrypted.RunCallout(b, auth)
	connect := func(e *bustest.Env, options ...nats.Option) func() error {
		url := e.URL()
		if e.CA != "" {
			options = append(options, nats.RootCAs(e.CA))
		}
		return func() error {
			nc, err := nats.Connect(url, options...)
			if err == nil {
				nc.Close()
			}
			return err
		}
	}
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(closed.Keys, access.Usersvc))
	if err != nil {
		b.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		b.Fatal(err)
	}
	compare(b,
		&variant{name: "open", do: connect(open)},
		&variant{name: "key", do: connect(closed, nats.Nkey(public, key.Sign))},
		&variant{name: "callout", do: connect(closed, nats.Token(auth.Token(token.User, tokentest.Ulla, "ulla@example.com")))},
		&variant{name: "callout+TLS", do: connect(encrypted, nats.Token(auth.Token(token.User, tokentest.Ulla, "ulla@example.com")))},
	)
}

// BenchmarkBook prints the cost of a booking, from the desk to the acknowledgement of its event,
// with permissions, TLS, an fsync before each acknowledgement, and three replicas. Each step
// includes those before it. It makes one booking at a time, and 32 at once.
func BenchmarkBook(b *testing.B) {
	for _, at := range []int{1, 32} {
		b.Run(fmt.Sprintf("at-once=%d", at), func(b *testing.B) {
			auth := tokentest.New(b)
			var variants []*variant
			for _, step := range []struct {
				name  string
				setup bustest.Setup
			}{
				{"open", bustest.Setup{}},
				{"permissions", bustest.Setup{Closed: true}},
				{"TLS", bustest.Setup{Closed: true, TLS: true}},
				{"fsync", bustest.Setup{Closed: true, TLS: true, SyncAlways: true}},
				{"R3", bustest.Setup{Closed: true, TLS: true, SyncAlways: true, Replicas: 3}},
			} {
				variants = append(variants, &variant{name: step.name,
					do: book(b, bustest.Start(b, step.setup), auth, at)})
			}
			compare(b, variants...)
		})
	}
}

// book returns a function that makes bookings at e concurrently, and returns when all are
// acknowledged.
func book(b *testing.B, e *bustest.Env, auth *tokentest.Authority, at int) func() error {
	b.Helper()
	conn := e.Connect
	if e.Keys != "" {
		conn = func(t testing.TB) *bus.Conn { return e.ConnectAs(t, access.Usersvc) }
	}
	ledger, err := ledger.Open(conn(b), ledger.Options{Source: "/usersvc", Tokens: auth.Verifier()})
	if err != nil {
		b.Fatal(err)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	proof := auth.Proof(token.User, tokentest.Ulla)
	return func() error {
		g, ctx := errgroup.WithContext(context.Background())
		for range at {
			g.Go(func() error {
				_, err := desk.Book(ctx, booking.Command{
					ID:    booking.CommandID(booking.NewID()),
					Actor: booking.Actor{ID: tokentest.Ulla, Role: booking.User}, Proof: proof,
				}, booking.ID(booking.NewID()), booking.Trip{})
				return err
			})
		}
		return g.Wait()
	}
}
