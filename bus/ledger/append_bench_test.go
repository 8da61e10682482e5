package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

// BenchmarkAppend has callers store bookings on one server that syncs each write, with group commit
// and without. Both take turns. "of-single" is the ratio of their rates, and its least and most are
// beside it. "accept" stores acceptances instead, each by a rider of its own. "accept-lazily" does
// so on a server that syncs later.
func BenchmarkAppend(b *testing.B) {
	const turns, turn = 7, 700 * time.Millisecond
	for _, what := range []string{"book", "accept", "accept-lazily"} {
		for _, callers := range []int{1, 2, 8, 12, 16, 24, 32, 64, 128} {
			b.Run(fmt.Sprintf("%s/callers=%d", what, callers), func(b *testing.B) {
				k := ledgertest.New(b, nil)
				server := bustest.Away(b)
				server.Config.SyncAlways = what != "accept-lazily"
				server.Start(b)
				open := func(from int) appender {
					k.GroupFrom = from
					return newAppender(k.LedgerOn(b, provisioned(b, server)), k, callers, what != "book")
				}
				from := ledger.GroupPays
				if !server.Config.SyncAlways {
					from = ledger.GroupBatches
				}
				grouped, single := open(from), open(0)
				var ratios, ours, theirs []float64
				for b.Loop() {
					for range turns {
						theirs = append(theirs, single.rate(b, turn))
						ours = append(ours, grouped.rate(b, turn))
						ratios = append(ratios, ours[len(ours)-1]/theirs[len(theirs)-1])
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(ours), "grouped/s")
				b.ReportMetric(median(theirs), "single/s")
				b.ReportMetric(median(ratios), "of-single")
				b.ReportMetric(slices.Min(ratios), "least")
				b.ReportMetric(slices.Max(ratios), "most")
			})
		}
	}
}

// provisioned returns a connection to a server that has the streams.
func provisioned(t testing.TB, server *bustest.Restartable) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(bus.Config{InProcess: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bustest.CloseConn(t, conn) })
	if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerSize: 4 << 30}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// An appender has callers append to a ledger, one event after the other.
type appender struct {
	ledger *ledger.Ledger
	users  []ledgertest.Person
	riders []ledgertest.Person // nil: no booking is accepted
	at     []booking.Engagement
}

func newAppender(l *ledger.Ledger, k *ledgertest.Kit, callers int, accept bool) appender {
	a := appender{ledger: l, at: make([]booking.Engagement, callers)}
	for range callers {
		a.users = append(a.users, k.Person(booking.User))
		if accept {
			a.riders = append(a.riders, k.Person(booking.Rider))
		}
	}
	return a
}

// rate returns the number of events that all callers store per second. Acceptances count, and the
// bookings that they accept do not.
func (a appender) rate(b *testing.B, during time.Duration) float64 {
	var wg sync.WaitGroup
	counts, spent := make([]int, len(a.users)), make([]time.Duration, len(a.users))
	begun := make([][]booking.History, len(a.users))
	const ahead = 100 // bookings that are made before the turn, for each caller
	if a.riders != nil {
		for i := range a.users {
			wg.Go(func() {
				for range ahead {
					h, err := a.requestAs(b.Context(), i, booking.ID(booking.NewID()))
					if err != nil {
						b.Errorf("book: %v", err)
					}
					begun[i] = append(begun[i], h)
				}
			})
		}
		wg.Wait()
	}
	over := time.Now().Add(during)
	for i := range a.users {
		wg.Go(func() {
			began := time.Now()
			for time.Now().Before(over) && (a.riders == nil || counts[i] < ahead) {
				var err error
				if a.riders == nil {
					_, err = a.requestAs(b.Context(), i, booking.ID(booking.NewID()))
				} else {
					_, err = a.accept(b.Context(), i, begun[i][counts[i]])
				}
				if err != nil {
					b.Errorf("append: %v", err)
				}
				counts[i]++
			}
			spent[i] = time.Since(began)
		})
	}
	wg.Wait()
	rate := 0.0
	for i, n := range counts {
		rate += float64(n) / spent[i].Seconds()
	}
	return rate
}

// request stores that the first user books.
func (a appender) request(ctx context.Context, id booking.ID) (booking.History, error) {
	return a.requestAs(ctx, 0, id)
}

func (a appender) requestAs(ctx context.Context, i int, id booking.ID) (booking.History, error) {
	p := a.users[i]
	return a.ledger.Append(ctx, p.Command(), id, booking.History{}, booking.Event{Kind: booking.Requested,
		Actor: p.Actor, Details: booking.Details{Deadline: time.Now().Add(time.Hour)}})
}

// accept stores that a rider accepts.
func (a appender) accept(ctx context.Context, i int, h booking.History) (booking.History, error) {
	p := a.riders[i]
	h, err := a.ledger.Engage(ctx, p.Command(), h.Booking.ID, h, a.at[i], booking.Event{Kind: booking.Accepted,
		Actor: p.Actor})
	if err == nil {
		a.at[i] = booking.Engagement{Booking: h.Booking.ID, Revision: h.Revision - 1}
	}
	return h, err
}
