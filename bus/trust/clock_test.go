package trust_test

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// A wallClock is this machine's clock, set wrong.
type wallClock struct{ off atomic.Int64 }

func (c *wallClock) set(off time.Duration) { c.off.Store(int64(off)) }
func (c *wallClock) now() time.Time        { return time.Now().Round(0).Add(time.Duration(c.off.Load())) }

// A clock is right within five seconds of the server's. A jump is noticed at once, and so is its
// correction.
func TestClock(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		wall, registry := &wallClock{}, prometheus.NewRegistry()
		clock := trust.NewClock(e.Connect(t), trust.ClockOptions{Now: wall.now, Registerer: registry})
		offset := func() float64 {
			all, err := registry.Gather()
			if err != nil || len(all) != 1 || all[0].GetName() != "pillion_clock_offset_seconds" {
				t.Fatalf("metrics: %v, %v", all, err)
			}
			return all[0].GetMetric()[0].GetGauge().GetValue()
		}
		if err := clock.Ready(t.Context()); err == nil || !errors.Is(clock.Right(), bus.ErrUnavailable) ||
			!math.IsNaN(offset()) {
			t.Errorf("before it was compared: %v, %v", err, offset())
		}
		bustest.Running(t, clock.Run)
		wait.Until(t, "the clock is compared", func() bool { return clock.Right() == nil })
		for _, c := range []struct {
			off  time.Duration
			says string // empty: it is right
		}{
			{off: time.Hour, says: "ahead of that of the NATS server"},
			{off: 4 * time.Second},
			{off: -time.Hour, says: "behind that of the NATS server"},
			{off: -4 * time.Second},
			{off: 20 * time.Second, says: "ahead of"},
			{off: -20 * time.Second, says: "behind"},
			{off: 0},
		} {
			wall.set(c.off)
			err := clock.Right()
			if c.says == "" {
				if err != nil {
					t.Errorf("%v off: %v", c.off, err)
				}
			} else if !errors.Is(err, token.ErrClock) || !strings.Contains(err.Error(), c.says) ||
				!strings.Contains(err.Error(), "stores bookings, ") || !strings.Contains(err.Error(), "NTP") {
				t.Errorf("%v off: %v", c.off, err)
			}
			if got := offset(); math.Abs(got-c.off.Seconds()) > 3 {
				t.Errorf("%v off: the metric says %v s", c.off, got)
			}
		}
	})
}
