package backup_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// small returns a system with a few bookings.
func small(t *testing.T) *system {
	t.Helper()
	p := empty(t)
	desk := p.desk(t, time.Hour)
	for range 3 {
		if _, err := desk.Book(t.Context(), p.Person(booking.User).Command(), booking.ID(booking.NewID()),
			booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// empty returns a system without bookings.
func empty(t *testing.T) *system {
	t.Helper()
	p := &system{Kit: ledgertest.New(t, bustest.Run(t))}
	p.conn = p.Connect(t)
	return p
}

// Open rejects a backup that is incomplete or damaged.
func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	folder := small(t).backUp(t, backup.Options{})
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v)", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: mode %v (%v)", info.Mode(), err)
	}
	damage := func(name string, how func(file string) error) string {
		t.Helper()
		other := t.TempDir()
		if err := os.CopyFS(other, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		if err := how(filepath.Join(other, name)); err != nil {
			t.Fatal(err)
		}
		return other
	}
	flip := func(file string) error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(file, b, 0o600)
	}
	shorten := func(file string) error { return os.Truncate(file, 100) }
	refusal := func(folder string, want error) {
		t.Helper()
		if _, err := backup.Open(folder); !errors.Is(err, want) || !strings.Contains(err.Error(), folder) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	refusal(damage("manifest.json", os.Remove), backup.ErrIncomplete)
	refusal(damage("BOOKINGS.copy", flip), backup.ErrDamaged)
	refusal(damage("BOOKINGS.copy", shorten), backup.ErrDamaged)
	refusal(damage("KV_KEYS.copy", os.Remove), backup.ErrDamaged)
	refusal(damage("manifest.json", shorten), backup.ErrDamaged)
	refusal(filepath.Join(folder, "nowhere"), backup.ErrIncomplete)
	open(t, folder)

	_, err = backup.Make(bounded(t), small(t).conn, folder, backup.Options{})
	refused(t, err, backup.ErrFolder)
	_, err = backup.Make(bounded(t), small(t).conn, filepath.Join(folder, "manifest.json", "within"), backup.Options{})
	refused(t, err, backup.ErrFolder)
	if !strings.Contains(err.Error(), "within: not a directory. Choose another folder with --out.") {
		t.Errorf("a folder that cannot be made: %v", err)
	}
}

// Restore refuses to overwrite data, or to work beside running services, and it deletes an
// incomplete restore.
func TestRefusedRestores(t *testing.T) {
	t.Parallel()
	source := small(t)
	folder := source.backUp(t, backup.Options{})
	b := open(t, folder)

	before, err := source.LedgerOn(t, source.conn).LastSequence(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	there := len(streams(t, source.conn))
	refused(t, b.Restore(bounded(t), source.conn, backup.RestoreOptions{}), backup.ErrNotEmpty)
	if left := len(streams(t, source.conn)); left != there {
		t.Errorf("%d streams became %d", there, left)
	}
	if after, err := source.LedgerOn(t, source.conn).LastSequence(bounded(t)); err != nil || after != before {
		t.Errorf("the ledger changed: last sequence %d became %d (%v)", before, after, err)
	}

	target := empty(t)
	_, stop := target.keepTime(t, target.LedgerOn(t, target.conn), target.conn)
	target.awaitPulling(t)
	refused(t, b.Restore(bounded(t), target.conn, backup.RestoreOptions{}), backup.ErrNotEmpty)
	stop()

	// The backup is damaged after it was opened.
	file := filepath.Join(folder, "KV_KEYS.copy")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(bounded(t), target.conn, backup.RestoreOptions{}); err == nil {
		t.Fatal("Restore() of a damaged backup = nil")
	}
	if _, err := target.conn.JetStream().Stream(bounded(t), bus.LedgerStream); !errors.Is(err,
		jetstream.ErrStreamNotFound) {
		t.Errorf("the ledger after a failed restore: %v, want not found", err)
	}
}

// A restore succeeds right after the deletion of all streams. The server answers the deletion, and
// the request to restore, before it is ready.
func TestRestoreAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 4
	if wait.Long() {
		rounds = 10
	}
	folder := small(t).backUp(t, backup.Options{})
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		conn, b := e.ConnectAs(t, access.Operator), open(t, folder)
		for range rounds {
			for _, stream := range streams(t, conn) {
				if err := conn.JetStream().DeleteStream(bounded(t), stream); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Restore(bounded(t), conn, backup.RestoreOptions{Replicas: e.Replicas}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// With Still, Make requires a system that is idle throughout.
func TestStill(t *testing.T) {
	t.Parallel()
	p := small(t)
	if m := open(t, p.backUp(t, backup.Options{Still: true})); !m.Still {
		t.Error("Still = false for an idle system")
	}
	_, stop := p.keepTime(t, p.LedgerOn(t, p.conn), p.conn)
	p.awaitPulling(t)
	_, err := backup.Make(bounded(t), p.conn, filepath.Join(t.TempDir(), "x"), backup.Options{Still: true})
	refused(t, err, backup.ErrNotStill)
	stop()

	desk, folder := p.desk(t, time.Hour), filepath.Join(t.TempDir(), "y")
	write := sync.OnceFunc(func() {
		if _, err := desk.Book(t.Context(), p.Person(booking.User).Command(), booking.ID(booking.NewID()),
			booking.Trip{}); err != nil {
			t.Error(err)
		}
	})
	_, err = backup.Make(bounded(t), p.conn, folder, backup.Options{Still: true, Each: func(s backup.Stream) {
		if s.Name == bus.LedgerStream {
			write()
		}
	}})
	refused(t, err, backup.ErrNotStill)
	if _, err := os.Stat(filepath.Join(folder, "manifest.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a failed backup has a manifest: %v", err)
	}

	_, err = backup.Make(bounded(t), bareServer(t), filepath.Join(t.TempDir(), "z"), backup.Options{})
	refused(t, err, backup.ErrNothing)
}

// bareServer returns a connection to a server without streams.
func bareServer(t *testing.T) *bus.Conn {
	t.Helper()
	p := empty(t)
	for _, name := range streams(t, p.conn) {
		if err := p.conn.JetStream().DeleteStream(bounded(t), name); err != nil {
			t.Fatal(err)
		}
	}
	return p.conn
}

func streams(t *testing.T, conn *bus.Conn) (names []string) {
	t.Helper()
	list := conn.JetStream().StreamNames(bounded(t))
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// Sessions are restored only with KeepSessions.
func TestSessions(t *testing.T) {
	t.Parallel()
	source := small(t)
	if _, err := source.conn.Bucket(bus.SessionsBucket).Create(bounded(t), "family",
		[]byte("generation 7")); err != nil {
		t.Fatal(err)
	}
	b := open(t, source.backUp(t, backup.Options{Still: true}))
	for _, keep := range []bool{false, true} {
		target := &system{Kit: &ledgertest.Kit{Env: bustest.Run(t), Auth: source.Auth}}
		target.conn = target.Connect(t)
		target.restore(t, b, backup.RestoreOptions{KeepSessions: keep}, nil)
		value, _, err := target.conn.Bucket(bus.SessionsBucket).Get(bounded(t), "family")
		if kept := err == nil && string(value) == "generation 7"; kept != keep || !keep &&
			!errors.Is(err, bus.ErrNoKey) {
			t.Errorf("keep %v: %q (%v)", keep, value, err)
		}
	}
}

// A ledger without events is restored without a difference.
func TestEmptyLedger(t *testing.T) {
	t.Parallel()
	source, target := empty(t), empty(t)
	b := open(t, source.backUp(t, backup.Options{Still: true}))
	if err := b.Restore(bounded(t), target.conn, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if wrong, err := b.Compare(bounded(t), target.conn, backup.RestoreOptions{}); err != nil || wrong != nil {
		t.Errorf("the restored system differs: %q, %v", wrong, err)
	}
}

// A copy contains all messages of an atomic batch or none.
func TestBatchesAreWhole(t *testing.T) {
	t.Parallel()
	const size = 200
	p := empty(t)
	for _, name := range streams(t, p.conn) { // they would only cost time
		if name != bus.LedgerStream {
			if err := p.conn.JetStream().DeleteStream(bounded(t), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := p.conn.JetStream().CreateStream(bounded(t), jetstream.StreamConfig{
		Name: "OTHER", Subjects: []string{"other.>"}, AllowAtomicPublish: true, Storage: jetstream.FileStorage,
	}); err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	var once sync.Once
	begun := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			b, err := jetstreamext.NewBatchPublisher(p.conn.JetStream(),
				jetstreamext.BatchFlowControl{AckFirst: false, AckTimeout: 10 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range size - 1 {
				if err := b.AddMsg(nats.NewMsg(fmt.Sprintf("other.%d", i))); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := b.CommitMsg(bounded(t), nats.NewMsg("other.last")); err != nil {
				t.Error(err)
				return
			}
			once.Do(func() { close(begun) })
		}
	}()
	<-begun
	for range 10 {
		b := open(t, p.backUp(t, backup.Options{}))
		if s := b.Stream("OTHER"); s.Last()%size != 0 || s.Messages()%size != 0 {
			t.Errorf("a copy ends at %d, in the middle of a batch", s.Last())
		}
	}
	close(done)
	<-ended
}

// The later copies contain what entries of the earlier ones refer to, whatever is written in
// between.
func TestOrder(t *testing.T) {
	t.Parallel()
	source := small(t)
	desk, late := source.desk(t, time.Hour), booking.ID(booking.NewID())
	put := func(bucket, key string) {
		t.Helper()
		if _, err := source.conn.Bucket(bucket).Create(bounded(t), key, []byte("late")); err != nil {
			t.Error(err)
		}
	}
	folder := filepath.Join(t.TempDir(), "backup")
	_, err := backup.Make(bounded(t), source.conn, folder, backup.Options{Each: func(s backup.Stream) {
		switch s.Name {
		case bus.QuarantineStream: // an entry refers to a message of the ledger
			if _, err := desk.Book(t.Context(), source.Person(booking.User).Command(), late,
				booking.Trip{}); err != nil {
				t.Error(err)
			}
		case bus.LedgerStream: // an event refers to its account, its key and revocations
			put(bus.AccountsBucket, "of-the-ledger")
			put(bus.KeysBucket, "of-the-ledger")
			put(bus.RevocationsBucket, "of-the-ledger")
		case bus.BucketStream(bus.AccountsBucket): // a change of an account revokes tokens
			put(bus.RevocationsBucket, "of-accounts")
		case bus.BucketStream(bus.SessionsBucket):
			put(bus.RevocationsBucket, "of-sessions")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	target := &system{Kit: &ledgertest.Kit{Env: bustest.Run(t), Auth: source.Auth}}
	target.conn = target.Connect(t)
	found := target.restore(t, open(t, folder), backup.RestoreOptions{}, nil)
	if _, ok := found.Board.Get(late); !ok {
		t.Error("the ledger was copied before the quarantine")
	}
	for _, is := range [][2]string{
		{bus.AccountsBucket, "of-the-ledger"}, {bus.KeysBucket, "of-the-ledger"}, {bus.RevocationsBucket, "of-the-ledger"},
		{bus.RevocationsBucket, "of-accounts"}, {bus.RevocationsBucket, "of-sessions"},
	} {
		if _, _, err := target.conn.Bucket(is[0]).Get(bounded(t), is[1]); err != nil {
			t.Errorf("%s was copied too early for %s: %v", is[0], is[1], err)
		}
	}
}

// A backup contains a key whose value is replaced during the copy of its bucket.
func TestReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	const keys, size = 30, 700 << 10 // more than the server sends before it awaits acknowledgements
	source := small(t)
	accounts := source.conn.Bucket(bus.AccountsBucket)
	value := make([]byte, size)
	for i := range keys {
		if _, err := rand.Read(value); err != nil { // random data does not compress
			t.Fatal(err)
		}
		if _, err := accounts.Create(bounded(t), key(i), value); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(t.TempDir(), "backup")
	_, err := backup.Make(bounded(t), source.conn, folder, backup.Options{Begin: func(stream string) {
		if stream != bus.BucketStream(bus.AccountsBucket) {
			return
		}
		_, revision, err := accounts.Get(bounded(t), key(keys-1))
		if err == nil {
			_, err = accounts.Update(bounded(t), key(keys-1), []byte("new"), revision)
		}
		if err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	target := &system{Kit: &ledgertest.Kit{Env: bustest.Run(t), Auth: source.Auth}}
	target.conn = target.Connect(t)
	target.restore(t, open(t, folder), backup.RestoreOptions{}, nil)
	for i := range keys {
		got, _, err := target.conn.Bucket(bus.AccountsBucket).Get(bounded(t), key(i))
		if want := map[bool]int{true: len("new"), false: size}[i == keys-1]; err != nil || len(got) != want {
			t.Errorf("%s: %d bytes, want %d (%v)", key(i), len(got), want, err)
		}
	}
}
