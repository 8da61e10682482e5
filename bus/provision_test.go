package bus_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

func TestProvisionWidensAndNeverNarrows(t *testing.T) {
	e := bustest.Run(t)
	conn := e.Connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	plan := e.Plan()
	for name, change := range map[string]func(*bus.Plan){
		"age":  func(p *bus.Plan) { p.LedgerAge /= 2 },
		"size": func(p *bus.Plan) { p.LedgerSize /= 2 },
	} {
		narrow := plan
		change(&narrow)
		if err := bus.Provision(ctx, conn, narrow); !errors.Is(err, bus.ErrNarrowing) {
			t.Errorf("a smaller %s: %v", name, err)
		}
	}
	if err := bus.Provision(ctx, conn, plan); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wide := plan
	wide.LedgerAge, wide.LedgerSize = 2*plan.LedgerAge, 2*plan.LedgerSize
	if err := bus.Provision(ctx, conn, wide); err != nil {
		t.Errorf("wider: %v", err)
	}
	if err := bus.Provision(ctx, conn, plan); !errors.Is(err, bus.ErrNarrowing) {
		t.Errorf("back to what it was: %v", err)
	}
	many := wide
	many.Replicas = 3
	if f := fault.From(bus.Provision(ctx, conn, many)); f.Code != "no_peers" || !strings.Contains(f.Message, "--replicas") {
		t.Errorf("three replicas on one server: %v", f)
	}

	s, err := conn.JetStream().Stream(ctx, bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if c.MaxAge != wide.LedgerAge || c.MaxBytes != wide.LedgerSize || !c.DenyDelete || !c.DenyPurge ||
		!c.AllowAtomicPublish || !c.AllowDirect ||
		c.MaxMsgsPerSubject != 1 || c.Discard != jetstream.DiscardNew || !c.DiscardNewPerSubject ||
		c.Storage != jetstream.FileStorage {
		t.Errorf("the ledger is %+v", c)
	}
}

func TestProvisionThreeReplicas(t *testing.T) {
	e := bustest.LongCluster(t, bustest.Setup{})
	conn := e.Connect(t)
	plan := e.Plan()
	plan.Replicas = 1
	if err := bus.Provision(t.Context(), conn, plan); !errors.Is(err, bus.ErrNarrowing) {
		t.Errorf("fewer replicas: %v", err)
	}
}

// A deployment of a version without sessions gets what it lacks and keeps what it has.
func TestProvisionAddsWhatAnOlderOneLacks(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		for _, name := range []string{bus.SessionsBucket, bus.RevocationsBucket} {
			if err := conn.JetStream().DeleteKeyValue(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range bus.TimersConsumers() {
			if err := conn.JetStream().DeleteConsumer(ctx, bus.TimersStream, name); err != nil {
				t.Fatal(err)
			}
			if err := conn.HasTimers(ctx, name); !errors.Is(err, bus.ErrNotProvisioned) {
				t.Errorf("without consumer %s: %v", name, err)
			}
		}
		account := booking.NewID()
		if _, err := conn.Bucket(bus.AccountsBucket).Create(ctx, account, []byte("here")); err != nil {
			t.Fatal(err)
		}
		plan := e.Plan()
		for range 2 {
			if err := bus.Provision(ctx, conn, plan); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range bus.TimersConsumers() {
			if err := conn.HasTimers(ctx, name); err != nil {
				t.Errorf("consumer %s: %v", name, err)
			}
		}
		if v, _, err := conn.Bucket(bus.AccountsBucket).Get(ctx, account); err != nil || string(v) != "here" {
			t.Errorf("the account: %q %v", v, err)
		}
		age := func(bucket string) time.Duration {
			t.Helper()
			s, err := conn.JetStream().Stream(ctx, "KV_"+bucket)
			if err != nil {
				t.Fatal(err)
			}
			c := s.CachedInfo().Config
			if c.Replicas != e.Replicas || c.MaxMsgsPerSubject != 1 {
				t.Errorf("bucket %s is %+v", bucket, c)
			}
			return c.MaxAge
		}
		if got := age(bus.SessionsBucket); got <= 7*24*time.Hour {
			t.Errorf("sessions are kept for %v", got)
		}
		// The last event that a revocation refuses was stored when the last token had run out, and
		// the leeway with it.
		if got, least := age(bus.RevocationsBucket), plan.LedgerAge+token.MaxLife+token.EventLeeway; got <= least {
			t.Errorf("revocations are kept for %v, want more than %v", got, least)
		}
		plan.LedgerAge *= 2
		if err := bus.Provision(ctx, conn, plan); err != nil {
			t.Fatal(err)
		}
		if got := age(bus.RevocationsBucket); got <= plan.LedgerAge+token.MaxLife {
			t.Errorf("with a ledger of %v revocations are kept for %v", plan.LedgerAge, got)
		}
	})
}

// No publisher can change a stored message.
func TestStoredSubjectsAreImmutable(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		user := k.Person(booking.User)
		id := booking.ID(booking.NewID())
		if _, err := ledgertest.NewDesk(t, k.Ledger(t)).Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		again := ledgertest.Message(id, 1, booking.Requested, user.Actor, user.Proof)
		var api *jetstream.APIError
		if _, err := conn.JetStream().PublishMsg(ctx, again); !errors.As(err, &api) || api.ErrorCode != 10077 {
			t.Errorf("a second message on a subject: %v", err)
		}
		rollup := ledgertest.Message(id, 1, booking.Requested, user.Actor, user.Proof,
			func(m *nats.Msg, _ map[string]any) { m.Header.Set("Nats-Rollup", "sub") })
		if _, err := conn.JetStream().PublishMsg(ctx, rollup); err == nil {
			t.Error("a rollup was taken")
		}
		s, err := conn.JetStream().Stream(ctx, bus.LedgerStream)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteMsg(ctx, 1); err == nil {
			t.Error("a message was deleted")
		}
		if err := s.Purge(ctx); err == nil {
			t.Error("the ledger was purged")
		}
	})
}

func TestEmbeddedRefusesWithASentence(t *testing.T) {
	taken := bustest.Away(t)
	taken.Config.Addr = bustest.FreeAddr(t)
	taken.Start(t)
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file)
	for name, c := range map[string]struct {
		config embedded.Config
		want   error
		say    string
	}{
		"address taken":    {embedded.Config{Dir: t.TempDir(), Addr: taken.Config.Addr}, embedded.ErrAddr, "address already in use"},
		"no address":       {embedded.Config{Dir: t.TempDir(), Addr: "nowhere"}, embedded.ErrAddr, "host and a port"},
		"folder is taken":  {embedded.Config{Dir: taken.Config.Dir}, embedded.ErrDir, "another program"},
		"folder is a file": {embedded.Config{Dir: file}, embedded.ErrDir, "not a directory"},
	} {
		s, err := embedded.Start(c.config)
		if err == nil {
			t.Errorf("%s: started: %v", name, s.Stop())
			continue
		}
		if !errors.Is(err, c.want) || !strings.Contains(fault.From(err).Message, c.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectRefusesWhatCanNeverWork(t *testing.T) {
	for _, url := range []string{"", "localhost:4222", "http://localhost:4222", "nats://", "nats://a:4222,ftp://b"} {
		if c, err := bus.Connect(bus.Config{URL: url}); err == nil {
			bustest.CloseConn(t, c)
			t.Errorf("%q was taken", url)
		}
	}
}

// The total size follows the ledger's size and the disk, so that a smaller ledger helps where there
// is too little room.
func TestPlanFollowsTheDisk(t *testing.T) {
	limits := func(t *testing.T, p bus.Plan) (ledger, all int64) {
		e := bustest.RunWith(t, p)
		for s := range e.Connect(t).JetStream().ListStreams(t.Context()).Info() {
			all += s.Config.MaxBytes
			if s.Config.Name == bus.LedgerStream {
				ledger = s.Config.MaxBytes
			}
		}
		return ledger, all
	}
	disk := func(total int64) bus.Disk { return func() (int64, int64, bool) { return total, total / 2, true } }
	if _, all := limits(t, bus.Plan{LedgerSize: 64 << 20, AuditSize: 16 << 20}); all > 256<<20 {
		t.Errorf("a ledger of 64 MiB comes with %d MiB in all", all>>20)
	}
	if ledger, all := limits(t, bus.Plan{Disk: disk(512 << 20)}); all > 448<<20 || ledger < 128<<20 {
		t.Errorf("on a disk of 512 MiB all may take %d MiB, and the ledger %d MiB", all>>20, ledger>>20)
	}
	if ledger, _ := limits(t, bus.Plan{Disk: disk(1 << 40)}); ledger != bus.DefaultLedgerSize {
		t.Errorf("on a large disk the ledger may take %d bytes", ledger)
	}
}

// Existing data always start, even on a smaller disk, and nothing is narrowed.
func TestPlanOnASmallerDisk(t *testing.T) {
	e := bustest.RunWith(t, bus.Plan{})
	conn := e.Connect(t)
	small := func() (int64, int64, bool) { return 512 << 20, 1 << 20, true }
	if err := bus.Provision(t.Context(), conn, bus.Plan{Disk: small}); err != nil {
		t.Fatal(err)
	}
	stream, err := conn.JetStream().Stream(t.Context(), bus.LedgerStream)
	if err != nil || stream.CachedInfo().Config.MaxBytes != bus.DefaultLedgerSize {
		t.Errorf("the ledger may take %d bytes now: %v", stream.CachedInfo().Config.MaxBytes, err)
	}
}

// Where NATS has a limit of its own, the error of provisioning states the total size, and a smaller
// ledger helps.
func TestTooLittleRoomSaysHowMuch(t *testing.T) {
	conn := bustest.Limited(t, "max_mem: 16MB, max_file: 300MB")
	err := bus.Provision(t.Context(), conn, bus.Plan{LedgerSize: 200 << 20, AuditSize: 16 << 20})
	if f := fault.From(err); f.Code != "no_storage" || !strings.Contains(f.Message, "need 441 MiB on each server") {
		t.Errorf("told: %v", err)
	}
	if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerSize: 200 << 20,
		AuditSize: 16 << 20}); fault.From(err).Code != "no_storage" {
		t.Errorf("told once more: %v", err)
	}
	if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerSize: 64 << 20, AuditSize: 16 << 20}); err != nil {
		t.Errorf("a smaller ledger: %v", err)
	}
}
func writeFile(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
}
