//go:build linux

package bus_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pillion/booking"
	"pillion/bus"
	"pillion/bus/bustest"
	"pillion/bus/embedded"
	"pillion/fault"
	"pillion/wait"
)

// diskFaults are what may happen to the disk of a server, by name: what breaks it and what ends that.
func diskFaults(v *bustest.Volume) map[string]struct{ strike, end func(t *testing.T) } {
	return map[string]struct{ strike, end func(t *testing.T) }{
		"full": {
			func(*testing.T) { v.Fill(0) },
			func(*testing.T) { v.Empty() },
		},
		"read-only": {
			func(t *testing.T) {
				if err := v.ReadOnly(true); err != nil {
					t.Skipf("a disk in use cannot be made read-only here: %v", err)
				}
			},
			func(t *testing.T) {
				if err := v.ReadOnly(false); err != nil {
					t.Fatal(err)
				}
			},
		},
		"a limit on the size of files": {
			func(t *testing.T) { limitFiles(t, 1<<10) },
			func(t *testing.T) { limitFiles(t, math.MaxUint64) },
		},
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

// A write to the disk that fails stops bookings no longer than the disk does: the server says so, opens its store anew, and has
// everything that was acknowledged.
func TestFailedWriteHeals(t *testing.T) {
	v := bustest.MountVolume(t, 128<<20)
	for name, f := range diskFaults(v) {
		t.Run(name, func(t *testing.T) {
			server, err := embedded.Start(embedded.Config{Dir: filepath.Join(v.Dir, name), SyncAlways: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			})
			conn, err := bus.Connect(bus.Config{InProcess: server.Provider()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeConn(t, conn) })
			if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerSize: 8 << 20}); err != nil {
				t.Fatal(err)
			}
			k := newKit(t, nil)
			ledger := k.ledgerOn(t, conn)
			desk := newDesk(t, ledger)
			user := k.person(booking.User)
			var acknowledged []booking.ID
			book := func() error {
				id := booking.ID(booking.NewID())
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := desk.Book(ctx, user.command(), id, booking.Trip{})
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
			f.strike(t)
			ended := false
			defer func() {
				if !ended {
					f.end(t)
				}
			}()
			wait.Until(t, "a booking fails", func() bool {
				err := book()
				if err != nil && fault.KindOf(err) != fault.Unavailable {
					t.Fatalf("a failed write is told as %v", err)
				}
				return err != nil
			})
			wait.Until(t, "the server says that a write has failed", func() bool { return errors.Is(server.Ready(t.Context()), embedded.ErrDisk) })
			f.end(t)
			ended = true
			wait.Until(t, "the server is ready", func() bool { return server.Ready(t.Context()) == nil })
			wait.Until(t, "a booking is stored", func() bool { return book() == nil })
			for _, id := range acknowledged {
				if h, err := ledger.Load(t.Context(), id, booking.Fresh); err != nil || len(h.Events) != 1 {
					t.Errorf("booking %s, which was acknowledged: %v, %v", id, h.Events, err)
				}
			}
		})
	}
}
