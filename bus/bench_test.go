package bus_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pillion/booking"
	"pillion/bus"
	"pillion/bus/bustest"
)

// BenchmarkReplay reads a ledger of 100,000 events back, re-verified and applied to a board, beside a bare ordered consumer that
// does nothing with the same messages. "of-bare" is the ratio of their rates. Each token appears in a hundred events, as it does when
// people act more than once.
func BenchmarkReplay(b *testing.B) {
	const events = 100_000
	e := bustest.Run(b)
	k := newKit(b, e)
	conn := k.Connect(b)
	fill(b, k, conn, events)
	ledger := k.ledgerOn(b, conn)

	var ours, bare []float64
	for b.Loop() {
		ours = append(ours, events/replay(b, ledger, events).Seconds())
		bare = append(bare, events/readBare(b, k.Connect(b), events).Seconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "events/s")
	b.ReportMetric(median(bare), "bare/s")
	b.ReportMetric(median(ours)/median(bare), "of-bare")
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// fill stores n events: bookings that are requested and accepted.
func fill(b *testing.B, k *kit, conn *bus.Conn, n int) {
	b.Helper()
	var users, riders []person
	for range n / 200 {
		users, riders = append(users, k.person(booking.User)), append(riders, k.person(booking.Rider))
	}
	for i := range n / 2 {
		user, rider := users[i%len(users)], riders[i%len(riders)]
		id := booking.ID(booking.NewID())
		for _, m := range []*nats.Msg{message(id, 1, booking.Requested, user.Actor, user.proof), message(id, 2, booking.Accepted, rider.Actor, rider.proof)} {
			if _, err := conn.JetStream().PublishMsgAsync(m); err != nil {
				b.Fatal(err)
			}
		}
		if i%500 == 0 || i == n/2-1 {
			select {
			case <-conn.JetStream().PublishAsyncComplete():
			case <-time.After(time.Minute):
				b.Fatal("the ledger is not filled in time")
			}
		}
	}
}

func replay(b *testing.B, ledger *bus.Ledger, n uint64) time.Duration {
	b.Helper()
	board := booking.NewBoard()
	f := ledger.Follow(board)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- f.Run(ctx) }()
	if err := board.Await(ctx, n); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if board.Len() != int(n)/2 {
		b.Fatalf("%d bookings on the board, want %d", board.Len(), n/2)
	}
	return took
}

func readBare(b *testing.B, conn *bus.Conn, n int) time.Duration {
	b.Helper()
	start := time.Now()
	c, err := conn.JetStream().OrderedConsumer(b.Context(), bus.LedgerStream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	messages, err := c.Messages()
	if err != nil {
		b.Fatal(err)
	}
	defer messages.Stop()
	for range n {
		if _, err := messages.Next(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}
