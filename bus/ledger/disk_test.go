//go:build linux

package ledger_test

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// A diskFault is a fault of a server's disk, and its end.
type diskFault struct {
	dir         string
	strike, end func(*bustest.Restartable)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func limitFiles(t *testing.T, most uint64) {
	t.Helper()
	var is syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &is); err != nil {
		t.Fatal(err)
	}
	is.Cur = min(most, is.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &is); err != nil {
		t.Fatal(err)
	}
}

// A failed write stops bookings no longer than the fault lasts: the server reports it, reopens its
// store, and has everything that was acknowledged.
func TestFailedWriteHeals(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T) diskFault{
		"full": func(t *testing.T) diskFault {
			v := bustest.MountVolume(t, 128<<20)
			return diskFault{v.Dir, func(*bustest.Restartable) { v.Fill(0) }, func(*bustest.Restartable) { v.Empty() }}
		},
		"one failed write": func(t *testing.T) diskFault {
			v := bustest.MountVolume(t, 128<<20)
			return diskFault{v.Dir, func(*bustest.Restartable) { limitFiles(t, 1<<10) },
				func(*bustest.Restartable) { limitFiles(t, math.MaxUint64) }}
		},
		// The system takes such a disk back only when nobody uses it: an operator who repairs it
		// starts the program again.
		"read-only": func(t *testing.T) diskFault {
			v := bustest.MountDisk(t, 160<<20)
			return diskFault{v.Dir, func(*bustest.Restartable) { must(t, v.Break()) }, func(r *bustest.Restartable) {
				r.Stop(t)
				must(t, v.Repair())
				r.Start(t)
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "one failed write" || alone(t) {
				breakDisk(t, fault(t))
			}
		})
	}
}

const aloneEnv = "PILLION_TEST_ALONE"

// alone reports whether this process is for this test only; if not, it runs the test in such a
// process. A limit on file sizes holds for everything that a process writes, including the records
// of go test.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return true
	}
	var names []string
	for _, name := range strings.Split(t.Name(), "/") {
		names = append(names, "^"+name+"$")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run="+strings.Join(names, "/"))
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

func breakDisk(t *testing.T, f diskFault) {
	r := bustest.Away(t)
	r.Config.Dir, r.Config.SyncAlways = filepath.Join(f.dir, "nats"), true
	r.Start(t)
	conn, err := bus.Connect(bus.Config{InProcess: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bustest.CloseConn(t, conn) })
	wait.Until(t, "the streams are made", func() bool {
		return bus.Provision(t.Context(), conn,
			bus.Plan{LedgerSize: 8 << 20}) == nil
	})
	k := ledgertest.New(t, nil)
	ledger := k.LedgerOn(t, conn)
	desk := ledgertest.NewDesk(t, ledger)
	user := k.Person(booking.User)
	var acknowledged []booking.ID
	book := func() error {
		id := booking.ID(booking.NewID())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := desk.Book(ctx, user.Command(), id, booking.Trip{})
		if err == nil {
			acknowledged = append(acknowledged, id)
		}
		return err
	}
	for range 20 {
		if err := book(); err != nil {
			t.Fatal(err)
		}
	}
	f.strike(r)
	struck := true
	t.Cleanup(func() {
		if struck {
			f.end(r)
		}
	})
	wait.Until(t, "a booking fails", func() bool {
		err := book()
		if err != nil && fault.KindOf(err) != fault.Unavailable && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a failed write is told as %v", err)
		}
		return err != nil
	})
	wait.Until(t, "the server says that a write has failed",
		func() bool { return errors.Is(r.Server.Load().Ready(t.Context()), embedded.ErrDisk) })
	if err := conn.Writable(t.Context()); !errors.Is(err, bus.ErrNotWritable) {
		t.Errorf("the connection says of writes that were not stored: %v", err)
	}
	struck = false
	f.end(r)
	wait.Until(t, "the server is ready", func() bool { return r.Server.Load().Ready(t.Context()) == nil })
	wait.Until(t, "the connection says that writes are stored",
		func() bool { return conn.Writable(t.Context()) == nil })
	wait.Until(t, "a booking is stored", func() bool { return book() == nil })
	for _, id := range acknowledged {
		if h, err := ledger.Load(t.Context(), id, booking.Fresh); err != nil || len(h.Events) != 1 {
			t.Errorf("booking %s, which was acknowledged: %v, %v", id, h.Events, err)
		}
	}
}
