package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// MustRegister registers a collector and returns it, or the one of the same name that is registered
// already: the parts of a process share their counters. With nil it registers nothing. It panics
// where the name belongs to a collector of another kind.
func MustRegister[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		return there.ExistingCollector.(C)
	}
	if err != nil {
		panic(err)
	}
	return c
}

// Registerer returns what the parts of this process register their counters with, or nil.
func (c *Conn) Registerer() prometheus.Registerer { return c.registerer }
