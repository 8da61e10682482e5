package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/snapshot"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// BenchmarkReplay reads, re-verifies and applies a ledger of 100,000 events, beside a bare ordered
// consumer that does nothing with the same messages. "of-bare" is the ratio of their rates. Each
// token appears in a hundred events, as when people act more than once.
func BenchmarkReplay(b *testing.B) {
	const events = 100_000
	e := bustest.Run(b)
	k := ledgertest.New(b, e)
	conn := k.Connect(b)
	fill(b, k, conn, events)
	ledger := k.LedgerOn(b, conn)

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

// BenchmarkRestart starts on ledgers of 10,000, 100,000 and 1,000,000 events, with a snapshot and
// without, until the board is ready. The snapshot lacks the last twentieth of the events (50,000 at
// most, the number after which the next one is made). It fails when a start from a snapshot of a
// million takes five seconds, or one without reads less than half as fast as a bare ordered
// consumer. "MB-live" is the growth of the process's heap by the board.
func BenchmarkRestart(b *testing.B) {
	for _, events := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) { benchmarkRestart(b, events) })
	}
}

func benchmarkRestart(b *testing.B, events int) {
	const allowed, least = 5 * time.Second, 0.5
	k := ledgertest.New(b, bustest.RunWith(b, bus.Plan{LedgerSize: 8 << 30}))
	conn := k.Connect(b)
	changeKeys(b, conn, func(_ *token.KeySet, now time.Time) (*token.KeySet, error) {
		return token.FirstSet(tokentest.KeyOf(&k.Auth.Private.PublicKey), now)
	})
	tail := min(events/20, int(snapshot.DefaultEvents))
	fill(b, k, conn, events-tail)
	maker := newInstance(k, b)
	ready(b, maker, events-tail)
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for at := 0.0; int(at) < events-tail; at, _ = maker.metric(b, "pillion_board_snapshot_sequence") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatal("no snapshot was made in time")
		}
	}
	size, _ := maker.metric(b, "pillion_board_snapshot_bytes")
	maker.stop()
	fill(b, k, conn, tail)

	var with, without, ours, bare, live []float64
	for b.Loop() {
		before := heap()
		i := newInstance(k, b, never)
		took := ready(b, i, events)
		if from := i.startedFrom(b); from != "snapshot" {
			b.Fatalf("started from %s", from)
		}
		live = append(live, float64(heap()-before)/1e6)
		i.stop()
		with = append(with, took.Seconds())

		i = newInstance(k, b, never, func(o *snapshot.Options) { o.Key = bytes.Repeat([]byte("x"), 32) })
		took = ready(b, i, events)
		i.stop()
		without, ours = append(without, took.Seconds()), append(ours, float64(events)/took.Seconds())
		bare = append(bare, float64(events)/readBare(b, k.Connect(b), events).Seconds())
	}
	ratio := median(ours) / median(bare)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(with), "s-with")
	b.ReportMetric(median(without), "s-without")
	b.ReportMetric(ratio, "of-bare")
	b.ReportMetric(size/1e6, "MB-snapshot")
	b.ReportMetric(median(live), "MB-live")
	if events < 1_000_000 { // smaller ones are over before their consumers are made
		return
	}
	if took := median(with); took > allowed.Seconds() {
		b.Errorf("a start from a snapshot took %.1f s, allowed is %v", took, allowed)
	}
	if ratio < least {
		b.Errorf("a start without a snapshot read %.2f times as fast as a bare consumer, and at least %v is wanted",
			ratio, least)
	}
}

// ready waits until an instance is ready and complete, and returns how long that took.
func ready(b *testing.B, i *instance, events int) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	start := time.Now()
	if err := i.board.Await(ctx, uint64(events)); err != nil {
		b.Fatalf("the board stays at %d of %d: %v", i.board.Seq(), events, err)
	}
	if err := i.follower.Ready(ctx); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	if n := i.board.Len(); n != events/2 {
		b.Fatalf("%d bookings on the board, want %d", n, events/2)
	}
	return took
}

// heap returns the live bytes on the heap.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// fill stores n events: bookings that are requested and cancelled.
func fill(b testing.TB, k *ledgertest.Kit, conn *bus.Conn, n int) {
	b.Helper()
	var users []ledgertest.Person
	for range max(n/100, 2) {
		users = append(users, k.Person(booking.User))
	}
	for i := range n / 2 {
		user := users[i%len(users)]
		id := booking.ID(booking.NewID())
		for _, m := range []*nats.Msg{ledgertest.Message(id, 1, booking.Requested, user.Actor, user.Proof),
			ledgertest.Message(id, 2, booking.Cancelled, user.Actor, user.Proof)} {
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

func replay(b *testing.B, ledger *ledger.Ledger, n uint64) time.Duration {
	b.Helper()
	board := board.New()
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

// BenchmarkFeed has two instances publish 2,000 stored events, on one server and on three that
// fsync, beside a bare consumer of the same kind that does nothing with as many. "of-bare" is the
// ratio of their rates.
func BenchmarkFeed(b *testing.B) {
	for _, servers := range []int{1, 3} {
		b.Run(fmt.Sprintf("servers=%d", servers), func(b *testing.B) {
			const events = 2000
			k := ledgertest.New(b, bustest.Start(b, bustest.Setup{Replicas: servers, SyncAlways: true}))
			conn := k.Connect(b)
			var rates []float64
			for b.Loop() {
				heard := make(chan struct{}, events)
				sub, err := conn.NATS().Subscribe("feed.booking.>", func(*nats.Msg) { heard <- struct{}{} })
				if err != nil {
					b.Fatal(err)
				}
				if err := conn.NATS().Flush(); err != nil {
					b.Fatal(err)
				}
				fill(b, k, conn, events)
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error, 2)
				start := time.Now()
				for range cap(done) {
					l := k.LedgerOn(b, k.Connect(b))
					follower := l.Follow(board.New())
					go func() {
						running := make(chan error)
						go func() { running <- follower.Run(ctx) }()
						done <- errors.Join(feed.Run(ctx, l, follower), <-running)
					}()
				}
				for range events {
					select {
					case <-heard:
					case <-time.After(time.Minute):
						b.Fatal("not all is told")
					}
				}
				rates = append(rates, events/time.Since(start).Seconds())
				cancel()
				for range cap(done) {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
				if err := sub.Unsubscribe(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(rates), "events/s")
		})
	}
}
