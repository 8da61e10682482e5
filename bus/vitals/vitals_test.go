package vitals_test

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/vitals"
	"github.com/example/pillion/internal/wait"
)

// TestVitals measures a stream and a bucket, of one server and of a cluster, as the service that
// does.
func TestVitals(t *testing.T) {
	t.Parallel()
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		registry := prometheus.NewRegistry()
		key, err := bus.LoadOrCreateServiceKey(access.KeyFile(e.Keys, access.Usersvc))
		if err != nil {
			t.Fatal(err)
		}
		conn := e.ConnectWith(t, bus.Config{Key: key, Inbox: access.Usersvc, Registerer: registry})
		turns := bus.BucketStream(bus.TurnsBucket)
		w := vitals.New(conn, bus.LedgerStream, turns)
		if got := value(t, registry, "pillion_stream_led", bus.LedgerStream); got != 0 {
			t.Errorf("before the first measurement, stream_led is %v", got)
		}
		if _, err := conn.Bucket(bus.TurnsBucket).Create(t.Context(), "vitals", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		bustest.Running(t, w.Run)
		wait.Until(t, "both are measured", func() bool {
			return value(t, registry, "pillion_stream_led", bus.LedgerStream) == 1 &&
				value(t, registry, "pillion_stream_led", turns) == 1
		})
		if got, want := value(t, registry, "pillion_stream_limit_bytes", bus.LedgerStream),
			float64(e.Plan().LedgerSize); got != want {
			t.Errorf("the ledger's limit is %v, want %v", got, want)
		}
		// this one, and the turn that Provision has made
		if got := value(t, registry, "pillion_stream_messages", turns); got != 2 {
			t.Errorf("the bucket has %v messages, want 2", got)
		}
		if got := value(t, registry, "pillion_stream_bytes", turns); got < 2 {
			t.Errorf("the bucket has %v bytes", got)
		}
		wait.Until(t, "all copies are up to date", func() bool {
			copies := func(state string) float64 {
				return value(t, registry, "pillion_stream_copies", bus.LedgerStream, state)
			}
			return copies("current") == float64(max(e.Plan().Replicas, 1)) && copies("behind") == 0
		})
	})
}

// TestVitalsWithoutNATS loses the server: no stream is led any more, and it is again afterwards.
func TestVitalsWithoutNATS(t *testing.T) {
	t.Parallel()
	server, registry := bustest.Away(t), prometheus.NewRegistry()
	server.Start(t)
	conn := bustest.ConnectTo(t, bus.Config{InProcess: server, Registerer: registry})
	if err := bus.Provision(t.Context(), conn, bus.Plan{}); err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, vitals.New(conn, bus.LedgerStream).Run)
	led := func(want float64) func() bool {
		return func() bool { return value(t, registry, "pillion_stream_led", bus.LedgerStream) == want }
	}
	wait.Until(t, "the ledger is led", led(1))
	server.Stop(t)
	wait.Until(t, "the ledger is not led", led(0))
	server.Start(t)
	wait.Until(t, "the ledger is led again", led(1))
}

// value returns the value of the gauge with these values of its labels, in any order.
func value(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetValue())
			}
			if slices.Sort(has); f.GetName() == name && slices.Equal(has, slices.Sorted(slices.Values(labels))) {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %v", name, labels)
	return 0
}
