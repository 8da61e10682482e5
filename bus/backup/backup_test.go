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
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// small returns a system with a few bookings.
func small(t *testing.T) *place {
	t.Helper()
	p := vacant(t)
	desk := p.desk(t, time.Hour)
	for range 3 {
		if _, err := desk.Book(t.Context(), p.person(booking.User).command(), booking.ID(booking.NewID()), booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// vacant returns a system without any.
func vacant(t *testing.T) *place {
	t.Helper()
	p := &place{Env: bustest.Run(t), auth: tokentest.New(t)}
	p.conn = p.Connect(t)
	return p
}

// What was not finished, or is not what was written, is refused before anything is done with it.
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
}

// Nothing is ever restored over something, nor beside services that are at work; and what could not be restored as a whole is not there.
func TestWhereNothingIsRestored(t *testing.T) {
	t.Parallel()
	source := small(t)
	folder := source.backUp(t, backup.Options{})
	b := open(t, folder)

	before, err := source.ledger(t).LastSequence(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	there := len(streams(t, source.conn))
	refused(t, b.Restore(bounded(t), source.conn, backup.RestoreOptions{}), backup.ErrNotEmpty)
	if left := len(streams(t, source.conn)); left != there {
		t.Errorf("of %d streams %d are left", there, left)
	}
	if after, err := source.ledger(t).LastSequence(bounded(t)); err != nil || after != before {
		t.Errorf("the ledger went on from %d to %d (%v)", before, after, err)
	}

	target := vacant(t)
	_, stop := target.keepTime(t, target.ledger(t), target.conn)
	target.isAtWork(t)
	refused(t, b.Restore(bounded(t), target.conn, backup.RestoreOptions{}), backup.ErrNotEmpty)
	stop()

	// Somebody damages it after it was opened.
	file := filepath.Join(folder, "KV_KEYS.copy")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(bounded(t), target.conn, backup.RestoreOptions{}); err == nil {
		t.Fatal("half of it was restored, and nobody says so")
	}
	if _, err := target.conn.JetStream().Stream(bounded(t), bus.LedgerStream); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the ledger of a restore that failed: %v", err)
	}
}

// What was deleted a moment ago does not stand in the way, and the server of a cluster that has just begun to take a stream is found: the server is
// ready for neither as soon as it answers.
func TestRestoreAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 4
	if wait.Long() {
		rounds = 30
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

// What is to go on elsewhere must be at rest.
func TestStill(t *testing.T) {
	t.Parallel()
	p := small(t)
	if m := open(t, p.backUp(t, backup.Options{Still: true})); !m.Still {
		t.Error("it does not say that nothing was written")
	}
	_, stop := p.keepTime(t, p.ledger(t), p.conn)
	p.isAtWork(t)
	_, err := backup.Make(bounded(t), p.conn, filepath.Join(t.TempDir(), "x"), backup.Options{Still: true})
	refused(t, err, backup.ErrNotStill)
	stop()

	desk, folder := p.desk(t, time.Hour), filepath.Join(t.TempDir(), "y")
	write := sync.OnceFunc(func() {
		if _, err := desk.Book(t.Context(), p.person(booking.User).command(), booking.ID(booking.NewID()), booking.Trip{}); err != nil {
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
		t.Errorf("it is a backup nevertheless: %v", err)
	}

	_, err = backup.Make(bounded(t), vacantServer(t), filepath.Join(t.TempDir(), "z"), backup.Options{})
	refused(t, err, backup.ErrNothing)
}

// vacantServer returns a connection to a server on which no streams were made.
func vacantServer(t *testing.T) *bus.Conn {
	t.Helper()
	p := vacant(t)
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

// Sessions stay only where that is asked for.
func TestSessions(t *testing.T) {
	t.Parallel()
	source := small(t)
	if _, err := source.conn.Bucket(bus.SessionsBucket).Create(bounded(t), "family", []byte("generation 7")); err != nil {
		t.Fatal(err)
	}
	b := open(t, source.backUp(t, backup.Options{Still: true}))
	for _, keep := range []bool{false, true} {
		target := &place{Env: bustest.Run(t), auth: source.auth}
		target.conn = target.Connect(t)
		target.restore(t, b, backup.RestoreOptions{KeepSessions: keep}, nil)
		value, _, err := target.conn.Bucket(bus.SessionsBucket).Get(bounded(t), "family")
		if kept := err == nil && string(value) == "generation 7"; kept != keep || !keep && !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("keep %v: %q (%v)", keep, value, err)
		}
	}
}

// Of messages that are stored together, all are in a copy or none.
func TestBatchesAreWhole(t *testing.T) {
	t.Parallel()
	const size = 200
	p := vacant(t)
	for _, name := range streams(t, p.conn) { // which only take time here
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
			b, err := jetstreamext.NewBatchPublisher(p.conn.JetStream(), jetstreamext.BatchFlowControl{AckFirst: false, AckTimeout: 10 * time.Second})
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
	copies := 10
	if wait.Long() {
		copies = 40
	}
	for range copies {
		b := open(t, p.backUp(t, backup.Options{}))
		if s := b.Stream("OTHER"); s.Last()%size != 0 || s.Messages()%size != 0 {
			t.Errorf("a copy ends at %d, in the middle of a batch", s.Last())
		}
	}
	close(done)
	<-ended
}

// What is copied later holds what it is needed for by what was copied before, whatever is written in between.
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
		case bus.QuarantineStream: // a record is about a message of the ledger
			if _, err := desk.Book(t.Context(), source.person(booking.User).command(), late, booking.Trip{}); err != nil {
				t.Error(err)
			}
		case bus.LedgerStream: // an event has an account, and a key, and is refused by what was taken back
			put(bus.AccountsBucket, "of-the-ledger")
			put(bus.KeysBucket, "of-the-ledger")
			put(bus.RevocationsBucket, "of-the-ledger")
		case bus.BucketStream(bus.AccountsBucket): // as is a token of an account that was changed
			put(bus.RevocationsBucket, "of-accounts")
		case bus.BucketStream(bus.SessionsBucket):
			put(bus.RevocationsBucket, "of-sessions")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	target := &place{Env: bustest.Run(t), auth: source.auth}
	target.conn = target.Connect(t)
	found := target.restore(t, open(t, folder), backup.RestoreOptions{}, nil)
	if _, ok := found.Board.Get(late); !ok {
		t.Error("the quarantine was copied after the ledger")
	}
	for _, is := range [][2]string{
		{bus.AccountsBucket, "of-the-ledger"}, {bus.KeysBucket, "of-the-ledger"}, {bus.RevocationsBucket, "of-the-ledger"},
		{bus.RevocationsBucket, "of-accounts"}, {bus.RevocationsBucket, "of-sessions"},
	} {
		if _, _, err := target.conn.Bucket(is[0]).Get(bounded(t), is[1]); err != nil {
			t.Errorf("%s was copied too early for what is %s: %v", is[0], is[1], err)
		}
	}
}

// A key whose value is replaced while its bucket is copied is in the copy, with the one or the other.
func TestReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	const keys, size = 30, 700 << 10 // more than the server sends ahead
	source := small(t)
	accounts := source.conn.Bucket(bus.AccountsBucket)
	value := make([]byte, size)
	for i := range keys {
		if _, err := rand.Read(value); err != nil { // so that it stays as large
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
	target := &place{Env: bustest.Run(t), auth: source.auth}
	target.conn = target.Connect(t)
	target.restore(t, open(t, folder), backup.RestoreOptions{}, nil)
	for i := range keys {
		got, _, err := target.conn.Bucket(bus.AccountsBucket).Get(bounded(t), key(i))
		if want := map[bool]int{true: len("new"), false: size}[i == keys-1]; err != nil || len(got) != want {
			t.Errorf("%s: %d bytes, want %d (%v)", key(i), len(got), want, err)
		}
	}
}
