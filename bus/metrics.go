package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// MustRegister registers a collector and returns it. Where one of that name is registered already,
// it returns that one, so that the parts of a process share their counters. A nil registry
// registers nothing. MustRegister panics where the name belongs to another kind of collector.
func MustRegister[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return there.ExistingCollector.(C)
	}
	if err != nil {
		panic(err)
	}
	return c
}

// Counters registers a counter for each value of a label, as [MustRegister] does. All of them exist
// from the start: increase() does not see the first event of a series that begins with it.
func Counters(r prometheus.Registerer, name, help, label string, values ...string) *prometheus.CounterVec {
	v := MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Name: name, Help: help,
	}, []string{label}))
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}
