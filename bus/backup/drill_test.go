package backup_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// A load books, accepts and lets bookings expire, and keeps replacing values in a bucket, until
// stop.
type load struct {
	*system
	mu           sync.Mutex
	acknowledged []inspect.Acknowledged
	revisions    map[string]int // the last acknowledged value of each key
	did          atomic.Int64
	stop         func()
}

const records = 1000

func (p *system) load(t *testing.T) *load {
	t.Helper()
	l := &load{system: p, revisions: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	accounts := p.conn.Bucket(bus.AccountsBucket)
	for i := range records {
		if _, err := accounts.Create(bounded(t), key(i), []byte("0")); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 {
		desk := p.desk(t, time.Hour)
		if n == 0 {
			desk = p.desk(t, time.Second) // its bookings expire
		}
		running.Go(func() {
			for ctx.Err() == nil {
				l.ride(ctx, desk)
			}
		})
	}
	for n := range 2 {
		running.Go(func() {
			for round := 1; ctx.Err() == nil; round++ {
				for i := n; i < records && ctx.Err() == nil; i += 2 {
					l.replace(ctx, accounts, key(i), round)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

func key(i int) string { return fmt.Sprintf("account-%d", i) }

// ride books twice; a rider accepts one of the bookings and completes it.
func (l *load) ride(ctx context.Context, desk *booking.Desk) {
	user, rider := l.Person(booking.User), l.Person(booking.Rider)
	var id booking.ID
	for range 2 {
		id = booking.ID(booking.NewID())
		c := user.Command()
		b, err := desk.Book(ctx, c, id, booking.Trip{})
		l.note(c, b, err)
	}
	for _, do := range []func(context.Context, booking.Command, booking.ID) (booking.Booking, error){
		desk.Accept, desk.Arrive, desk.Start, desk.Complete,
	} {
		c := rider.Command()
		b, err := do(ctx, c, id)
		l.note(c, b, err)
	}
}

func (l *load) note(c booking.Command, b booking.Booking, err error) {
	if err != nil { // stopped, or too late
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged = append(l.acknowledged, inspect.Acknowledged{Booking: b.ID, Command: c.ID, Seq: b.Seq})
	l.did.Add(1)
}

// replace replaces the value of a key.
func (l *load) replace(ctx context.Context, b *bus.Bucket, key string, value int) {
	_, revision, err := b.Get(ctx, key)
	if err == nil {
		_, err = b.Update(ctx, key, []byte(strconv.Itoa(value)), revision)
	}
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revisions[key] = value
}

// soFar returns what has been acknowledged.
func (l *load) soFar() ([]inspect.Acknowledged, map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	revisions := map[string]int{}
	for k, v := range l.revisions {
		revisions[k] = v
	}
	return append([]inspect.Acknowledged(nil), l.acknowledged...), revisions
}

// A backup of a running system contains everything acknowledged before it began. Restored on one
// server and on a cluster of three, both with access control, the system passes inspection and
// continues.
func TestDrill(t *testing.T) {
	t.Parallel()
	source := &system{Kit: ledgertest.New(t, bustest.Run(t))}
	source.conn = source.Connect(t)
	shown, stopTime := source.keepTime(t, source.LedgerOn(t, source.conn), source.conn)
	work := source.load(t)
	wait.Until(t, "bookings have expired, and others are under way", func() bool {
		return work.did.Load() > 100 && len(shown.Newest(1, 0, board.InState(booking.StateExpired))) > 0
	})

	stopTime() // so that the next booking is still open in the copy, however long that takes
	waiting := booking.ID(booking.NewID())
	if _, err := source.desk(t, time.Second).Book(t.Context(), source.Person(booking.User).Command(), waiting,
		booking.Trip{}); err != nil {
		t.Fatal(err)
	}

	acknowledged, revisions := work.soFar()
	folder := source.backUp(t, backup.Options{})
	after, _ := work.soFar()
	if len(after) == len(acknowledged) {
		t.Error("nothing was written during the backup, so this test proves little")
	}
	work.stop()
	b := open(t, folder)
	if b.Still {
		t.Error("Still = true although the system was running")
	}
	if b.Stream(bus.TimersStream) != nil || b.Stream(bus.BucketStream(bus.BoardsBucket)) != nil {
		t.Error("the backup contains derived streams")
	}

	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		p := &system{Kit: &ledgertest.Kit{Env: e, Auth: source.Auth}, conn: e.ConnectAs(t, access.Operator)}
		t.Logf("%d events were acknowledged before, %d by the end", len(acknowledged), len(after))
		found := p.restore(t, b, backup.RestoreOptions{Replicas: p.Replicas}, acknowledged)
		if open, ok := found.Board.Get(waiting); !ok || open.State != booking.StateOpen {
			t.Fatalf("the open booking was restored as %+v (%v)", open, ok)
		}
		p.checkAccounts(t, revisions)
		p.checkContinues(t, waiting, found.Board)
		again := open(t, p.backUp(t, backup.Options{}))
		if last, err := p.LedgerOn(t, p.conn).LastSequence(bounded(t)); err != nil ||
			again.Stream(bus.LedgerStream).Last() != last {
			t.Errorf("a backup of the restored ledger ends at %d, want %d (%v)", again.Stream(bus.LedgerStream).Last(),
				last, err)
		}
	})
}

// restore restores a backup, and fails the test unless the ledger passes inspection and contains
// what was acknowledged.
func (p *system) restore(
	t *testing.T, b *backup.Backup, o backup.RestoreOptions, acknowledged []inspect.Acknowledged,
) inspect.Report {
	t.Helper()
	ctx := bounded(t)
	if err := b.Restore(ctx, p.conn, o); err != nil {
		t.Fatalf("restore: %v", err)
	}
	found, err := inspect.Run(ctx, p.LedgerOn(t, p.conn), inspect.Options{Acknowledged: acknowledged, Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Findings) > 0 {
		t.Fatalf("the restored ledger: %v", found.Findings)
	}
	if err := b.Finish(ctx, p.conn); err != nil {
		t.Fatalf("finish: %v", err)
	}
	if wrong, err := b.Compare(ctx, p.conn, o); err != nil || len(wrong) > 0 {
		t.Errorf("compared with the manifest: %v (%v)", wrong, err)
	}
	if err := bus.Provision(ctx, p.conn, p.Plan()); err != nil { // as for a change of limits
		t.Errorf("provision the restored system: %v", err)
	}
	return found
}

// checkAccounts fails the test unless all records exist, and none is older than its acknowledged
// value.
func (p *system) checkAccounts(t *testing.T, revisions map[string]int) {
	t.Helper()
	bucket, ctx := p.conn.Bucket(bus.AccountsBucket), bounded(t)
	missing, old := 0, 0
	for i := range records {
		value, _, err := bucket.Get(ctx, key(i))
		if err != nil {
			missing++
			continue
		}
		if n, _ := strconv.Atoi(string(value)); n < revisions[key(i)] {
			old++
		}
	}
	if missing > 0 || old > 0 {
		t.Errorf("of %d records, %d are missing and %d are older than acknowledged", records, missing, old)
	}
}

// checkContinues fails the test unless an open booking expires, and new bookings are accepted.
func (p *system) checkContinues(t *testing.T, waiting booking.ID, replayed *board.Board) {
	t.Helper()
	conn := p.conn
	if p.Keys != "" {
		conn = p.ConnectAs(t, access.Usersvc)
	}
	ledger := p.LedgerOn(t, conn)
	shown, _ := p.keepTime(t, ledger, conn)
	if err := shown.Await(bounded(t), replayed.Seq()); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the open booking has expired", func() bool {
		now, _ := shown.Get(waiting)
		return now.State == booking.StateExpired
	})
	h, err := ledger.Load(bounded(t), waiting, booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(h.Events); n != 2 || h.Events[1].At.Before(h.Booking.Deadline) {
		t.Errorf("it expired %v after its deadline, as event %d", h.Events[n-1].At.Sub(h.Booking.Deadline), n)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	id := booking.ID(booking.NewID())
	if _, err := desk.Book(bounded(t), p.Person(booking.User).Command(), id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "a new booking has expired", func() bool {
		now, _ := shown.Get(id)
		return now.State == booking.StateExpired
	})
	found, err := inspect.Run(bounded(t), ledger, inspect.Options{})
	if err != nil || len(found.Findings) > 0 {
		t.Errorf("final inspection: %v (%v)", found.Findings, err)
	}
	if err := shown.Await(bounded(t), found.Board.Seq()); err != nil || content(t, shown) != content(t, found.Board) {
		t.Errorf("the board differs from a replay of the ledger (%v)", err)
	}
}
