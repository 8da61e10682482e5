package bus_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/bus"
)

// The parts of a process that share a registry share their counters.
func TestCountersAreShared(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := func(r prometheus.Registerer) prometheus.Counter {
		return bus.MustRegister(r, prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total"}))
	}
	one, two, unregistered := counter(registry), counter(registry), counter(nil)
	one.Inc()
	two.Inc()
	unregistered.Inc()
	if n := testutil.ToFloat64(one); n != 2 {
		t.Errorf("counted %v, want 2", n)
	}
	if n, err := testutil.GatherAndCount(registry); n != 1 || err != nil {
		t.Errorf("%d metrics are registered, want 1: %v", n, err)
	}
}
