package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// natsEnv makes this binary a NATS server: its address, its folder, whether it syncs each write.
const natsEnv = "PILLION_LEDGER_NATS"

// killsEnv is how many kills `make check-long` has.
const killsEnv = "KILLS"

// natsMain is such a server. It returns only with an error.
func natsMain(args string) error {
	addr, args, _ := strings.Cut(args, "|")
	dir, syncs, _ := strings.Cut(args, "|")
	if _, err := embedded.Start(embedded.Config{Dir: dir, Addr: addr, SyncAlways: syncs == "true"}); err != nil {
		return err
	}
	select {}
}

// A mortal is a NATS server in a process of its own, which can be killed.
type mortal struct {
	addr, dir string
	syncs     bool // each write
	cmd       *exec.Cmd
}

func (m *mortal) start(t *testing.T) {
	t.Helper()
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%t", natsEnv, m.addr, m.dir, m.syncs))
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (m *mortal) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// TestKilledInGroups kills the server, with kill -9, while 64 pairs of people write in groups. Each
// repeats a command until the outcome is known. What was acknowledged is there, once, and no
// acceptance is there in part.
func TestKilledInGroups(t *testing.T) {
	t.Run("everything", func(t *testing.T) { killedInGroups(t, true, 2) })
	t.Run("acceptances", func(t *testing.T) { killedInGroups(t, false, ledger.GroupBatches) })
}

func killedInGroups(t *testing.T, syncs bool, groupFrom int) {
	t.Helper()
	t.Parallel()
	const writers, ledgers = 64, 4
	kills := 3
	if wait.Long() {
		kills = 10
	}
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		kills = n
	}
	server := &mortal{addr: bustest.FreeAddr(t), dir: t.TempDir(), syncs: syncs}
	server.start(t)
	t.Cleanup(func() { server.kill() })
	connect := func() *bus.Conn { return bustest.ConnectTo(t, bus.Config{URL: "nats://" + server.addr}) }
	admin := connect()
	wait.Until(t, "the streams are made", func() bool {
		return bus.Provision(t.Context(), admin, bus.Plan{LedgerSize: 1 << 30}) == nil
	})
	k := ledgertest.New(t, nil)
	k.GroupFrom = groupFrom
	var desks []*booking.Desk
	for range ledgers {
		desks = append(desks, ledgertest.NewDesk(t, k.LedgerOn(t, connect())))
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stored := make(chan inspect.Acknowledged)
	var wg sync.WaitGroup
	for i := range writers {
		w := writer{desk: desks[i%ledgers], user: k.Person(booking.User), rider: k.Person(booking.Rider)}
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.ride(ctx, stored); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var acknowledged []inspect.Acknowledged
	await := func(n int) {
		for range n {
			select {
			case a := <-stored:
				acknowledged = append(acknowledged, a)
			case <-time.After(wait.Patience):
				t.Fatal("nothing is stored")
			}
		}
	}
	for range kills {
		await(writers + rand.IntN(4*writers))
		server.kill()
		server.start(t)
	}
	await(4 * writers)
	stop()
	go func() {
		wg.Wait()
		close(stored)
	}()
	for a := range stored {
		acknowledged = append(acknowledged, a)
	}

	l := k.LedgerOn(t, connect())
	report := ledgertest.Inspect(t, l, inspect.Options{Acknowledged: acknowledged})
	for _, f := range report.Findings {
		t.Errorf("found %s", f)
	}
	if len(report.Refused) > 0 { // a command that is stored twice does not follow
		t.Errorf("readers refuse %v", report.Refused)
	}
	largest := largestGroup(t, admin, report.Last)
	t.Logf("%d kills, %d events acknowledged of %d messages, up to %d in a batch", kills, len(acknowledged), report.Last,
		largest)
	if largest < writers/ledgers/2 {
		t.Errorf("the largest batch has %d messages: this tests no groups", largest)
	}
}

// largestGroup returns the number of messages in the largest batch of the ledger.
func largestGroup(t *testing.T, c *bus.Conn, last uint64) (largest int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil { // it may not have noticed yet that the server is back
		t.Fatal(err)
	}
	all, err := c.JetStream().OrderedConsumer(ctx, bus.LedgerStream, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := all.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(m.Headers().Get(jetstreamext.BatchSeqHeader)) // 0 where it was alone
		largest = max(largest, n)
		if at, err := m.Metadata(); err != nil || at.Sequence.Stream >= last {
			return largest
		}
	}
}

// A writer is a user and a rider who ride with each other, and nobody else.
type writer struct {
	desk        *booking.Desk
	user, rider ledgertest.Person
}

// ride books a ride, has it accepted and cancels it. It sends what was acknowledged to stored.
func (w writer) ride(ctx context.Context, stored chan<- inspect.Acknowledged) error {
	id := booking.ID(booking.NewID())
	for _, step := range []struct {
		kind booking.Kind
		who  ledgertest.Person
		do   func(context.Context, booking.Command) error
	}{
		{booking.Requested, w.user, func(ctx context.Context, c booking.Command) error {
			_, err := w.desk.Book(ctx, c, id, booking.Trip{})
			return err
		}},
		{booking.Accepted, w.rider, func(ctx context.Context, c booking.Command) error {
			_, err := w.desk.Accept(ctx, c, id)
			return err
		}},
		{booking.Cancelled, w.user, func(ctx context.Context, c booking.Command) error {
			_, err := w.desk.Cancel(ctx, c, id, "that was all")
			return err
		}},
	} {
		c := step.who.Command()
		for {
			err := step.do(ctx, c)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if fault.KindOf(err) != fault.Unavailable {
				return fmt.Errorf("%s: %w", step.kind, err)
			}
		}
		stored <- inspect.Acknowledged{Booking: id, Command: c.ID, Kind: step.kind, Actor: c.Actor.ID}
	}
	return nil
}
