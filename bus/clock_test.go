package bus_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// A wallClock is this machine's, set wrong.
type wallClock struct{ off atomic.Int64 }

func (c *wallClock) set(off time.Duration) { c.off.Store(int64(off)) }
func (c *wallClock) now() time.Time        { return time.Now().Round(0).Add(time.Duration(c.off.Load())) }

// running runs a task until the test ends.
func running(t testing.TB, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A clock is right within five seconds of the server's. One that jumps is noticed at once, and so is one that is set right.
func TestClock(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		wall, registry := &wallClock{}, prometheus.NewRegistry()
		clock, err := e.Connect(t).Clock(bus.ClockOptions{Now: wall.now, Registerer: registry})
		if err != nil {
			t.Fatal(err)
		}
		offset := func() float64 {
			all, err := registry.Gather()
			if err != nil || len(all) != 1 || all[0].GetName() != "pillion_clock_offset_seconds" {
				t.Fatalf("metrics: %v, %v", all, err)
			}
			return all[0].GetMetric()[0].GetGauge().GetValue()
		}
		if err := clock.Ready(t.Context()); err == nil || !errors.Is(clock.Right(), bus.ErrUnavailable) || !math.IsNaN(offset()) {
			t.Errorf("before it was compared: %v, %v", err, offset())
		}
		running(t, clock.Run)
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
			} else if !errors.Is(err, token.ErrClock) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "stores bookings, ") || !strings.Contains(err.Error(), "NTP") {
				t.Errorf("%v off: %v", c.off, err)
			}
			if got := offset(); math.Abs(got-c.off.Seconds()) > 3 {
				t.Errorf("%v off: the metric says %v s", c.off, got)
			}
		}
	})
}

// An instance whose clock cannot be gone by leaves what is due to the others, also what it has begun.
func TestTimekeeperThatIsUnfit(t *testing.T) {
	t.Parallel() // some of it is waiting
	k := newKit(t, bustest.Run(t))
	user, l := k.person(booking.User), k.ledger(t)
	var off atomic.Pointer[error]
	off.Store(&errOff)
	var asked atomic.Int32
	fit := func(context.Context) error {
		asked.Add(1)
		if err := off.Load(); err != nil {
			return *err
		}
		return nil
	}
	var acts atomic.Int32 // while it is unfit
	acted := make(chan struct{}, 1)
	k.timekeeperWhile(t, fit, func(c *booking.ProcessManagerConfig) {
		c.Act = func(ctx context.Context) (booking.Actor, string, error) {
			if fit(ctx) != nil {
				acts.Add(1)
			}
			select {
			case acted <- struct{}{}:
			default:
			}
			return booking.Actor{}, "", bus.ErrNoIdentity
		}
	})
	overdue := []booking.ID{booked(t, l, user, time.Nanosecond)}
	wait.Until(t, "it is asked whether it is fit", func() bool { return asked.Load() > 6 || acts.Load() > 0 })
	if acts.Load() > 0 {
		t.Fatal("it begins with a clock that is off")
	}
	off.Store(nil)
	select {
	case <-acted: // it has the timer, and tries again and again
	case <-time.After(wait.Patience):
		t.Fatal("it does not begin")
	}
	off.Store(&errOff)
	k.timekeeper(t)
	for range 20 {
		overdue = append(overdue, booked(t, l, user, time.Nanosecond))
	}
	for _, id := range overdue {
		wait.Until(t, "somebody else ends it", func() bool { return state(t, l, id) == booking.StateExpired })
	}
	if n := acts.Load(); n > 1 { // one may have been under way
		t.Errorf("it has acted %d times with a clock that is off", n)
	}
}

var errOff error = token.ErrClock

// An instance that fails with what it has taken, whatever the reason, leaves it to the others after a while.
func TestTimekeeperThatFails(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := newKit(t, e)
		user, l := k.person(booking.User), k.ledger(t)
		var overdue []booking.ID
		tried := make(chan struct{}, 1)
		k.timekeeperWhile(t, nil, func(c *booking.ProcessManagerConfig) {
			c.Act = func(context.Context) (booking.Actor, string, error) {
				select {
				case tried <- struct{}{}:
				default:
				}
				return booking.Actor{}, "", bus.ErrNoIdentity
			}
		})
		for range 5 {
			overdue = append(overdue, booked(t, l, user, time.Nanosecond))
		}
		select {
		case <-tried:
		case <-time.After(wait.Patience):
			t.Fatal("it does not begin")
		}
		k.timekeeper(t)
		for _, id := range overdue {
			wait.Until(t, "somebody else ends it", func() bool { return state(t, l, id) == booking.StateExpired })
		}
	})
}
