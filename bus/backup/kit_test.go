package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/timers"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

const patience = 2 * time.Minute // machines are busy

// A system is a NATS whose services trust the tokens of Auth.
type system struct {
	*ledgertest.Kit
	conn *bus.Conn // as operator
}

func (p *system) desk(t testing.TB, deadline time.Duration) *booking.Desk {
	t.Helper()
	d, err := booking.NewDesk(p.LedgerOn(t, p.conn), booking.DeskOptions{Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// keepTime runs an instance that handles deadlines, until the end of the test or stop, and returns
// its board.
func (p *system) keepTime(t testing.TB, ledger *ledger.Ledger, conn *bus.Conn) (shown *board.Board, stop func()) {
	t.Helper()
	shown = board.New()
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	service := p.Person(booking.Service)
	manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk: desk, Board: shown,
		Act: func(context.Context) (booking.Actor, string, error) { return service.Actor, service.Proof, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	follower := ledger.Follow(shown)
	keeper, err := timers.NewScheduler(ledger, follower, manager)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{follower.Run, keeper.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return shown, stop
}

// awaitPulling waits until an instance pulls from a consumer, which it does shortly after its
// start.
func (p *system) awaitPulling(t testing.TB) {
	t.Helper()
	wait.Until(t, "an instance pulls from a consumer", func() bool {
		c, err := p.conn.JetStream().Consumer(bounded(t), bus.TimersStream, bus.TimersConsumer)
		return err == nil && c.CachedInfo().NumWaiting > 0
	})
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (p *system) backUp(t testing.TB, o backup.Options) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "backup")
	if _, err := backup.Make(bounded(t), p.conn, folder, o); err != nil {
		t.Fatalf("back up: %v", err)
	}
	return folder
}

func open(t testing.TB, folder string) *backup.Backup {
	t.Helper()
	b, err := backup.Open(folder)
	if err != nil {
		t.Fatalf("open backup: %v", err)
	}
	return b
}

// refused fails the test unless err is want, with a sentence of its own.
func refused(t testing.TB, err error, want *fault.Error) {
	t.Helper()
	if !errors.Is(err, want) || len(fault.From(err).Message) < 40 {
		t.Errorf("error = %v, want %s with a sentence", err, want.Code)
	}
}

// content returns a board as text, for comparisons.
func content(t testing.TB, b *board.Board) string {
	t.Helper()
	text, err := json.Marshal(b.Newest(b.Len(), 0))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d: %s", b.Seq(), text)
}
