package bus_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
)

// Data of versions without access control are in another account, where nobody looks for them now.
func TestDataOfAnOlderBuildAreRefused(t *testing.T) {
	old := bustest.Away(t)
	old.Start(t)
	conn, err := bus.Connect(bus.Config{InProcess: old})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Provision(t.Context(), conn, bus.Plan{}); err != nil {
		t.Fatal(err)
	}
	k := ledgertest.New(t, nil)
	if _, err := ledgertest.NewDesk(t, k.LedgerOn(t, conn)).Book(t.Context(), k.Person(booking.User).Command(),
		booking.ID(booking.NewID()), booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	bustest.CloseConn(t, conn)
	old.Stop(t)

	keys, err := access.LoadOrCreate(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(embedded.Config{Dir: old.Config.Dir, Access: access.Conf(keys, false)})
	if err == nil {
		t.Fatalf("started, and shows nothing of what is there: %v", s.Stop())
	}
	if f := fault.From(err); !errors.Is(err, embedded.ErrData) || !strings.Contains(f.Message, "BOOKINGS") ||
		!strings.Contains(f.Message, old.Config.Dir) {
		t.Errorf("told: %v", err)
	}
	old.Start(t) // and nothing has become of it
}

// A ledger with another layout is neither read nor changed.
func TestLedgerOfAnotherLayoutIsRefused(t *testing.T) {
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"a newer one":    func(c *jetstream.StreamConfig) { c.Metadata["pillion-layout"] = "2" },
		"other subjects": func(c *jetstream.StreamConfig) { c.Subjects, c.RePublish = []string{"elsewhere.>"}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			e := bustest.Run(t)
			conn := e.Connect(t)
			if err := conn.Provisioned(t.Context()); err != nil {
				t.Fatal(err)
			}
			js := conn.JetStream()
			stream, err := js.Stream(t.Context(), bus.LedgerStream)
			if err != nil {
				t.Fatal(err)
			}
			config := stream.CachedInfo().Config
			change(&config)
			if _, err := js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			if err := bus.Provision(t.Context(), conn, e.Plan()); !errors.Is(err, bus.ErrLayout) {
				t.Errorf("provision: %v", err)
			}
			if stream, err = js.Stream(t.Context(), bus.LedgerStream); err != nil ||
				stream.CachedInfo().Config.Subjects[0] != config.Subjects[0] {
				t.Errorf("it was changed: %v, %v", stream.CachedInfo().Config.Subjects, err)
			}
		})
	}
}
