package timers_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// An instance with a wrong clock leaves its work to the others, including what it has begun.
func TestSchedulerThatIsUnfit(t *testing.T) {
	t.Parallel() // some of it is waiting
	k := ledgertest.New(t, bustest.Run(t))
	user, l := k.Person(booking.User), k.Ledger(t)
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
	newTimingWhile(k, t, k.Ledger(t), fit, func(c *booking.ProcessManagerConfig) {
		c.Act = func(ctx context.Context) (booking.Actor, string, error) {
			if fit(ctx) != nil {
				acts.Add(1)
			}
			select {
			case acted <- struct{}{}:
			default:
			}
			return booking.Actor{}, "", trust.ErrNoIdentity
		}
	})
	overdue := []booking.ID{ledgertest.Booked(t, l, user, time.Nanosecond)}
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
	newTiming(k, t)
	for range 20 {
		overdue = append(overdue, ledgertest.Booked(t, l, user, time.Nanosecond))
	}
	for _, id := range overdue {
		wait.Until(t, "somebody else ends it", func() bool {
			return ledgertest.State(t, l,
				id) == booking.StateExpired
		})
	}
	if n := acts.Load(); n > 1 { // one may have been under way
		t.Errorf("it has acted %d times with a clock that is off", n)
	}
}

var errOff error = token.ErrClock

// An instance with a wrong clock attends to no booking, and makes up for it when the clock is
// right.
func TestAttendingThatIsUnfit(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		l := k.Ledger(t)
		attended := make(chan struct{}, 16)
		_, follower, keeper := newDutiful(k, t, duty{attend: func(booking.Booking) error {
			attended <- struct{}{}
			return nil
		}})
		var off atomic.Bool
		var asked atomic.Int32
		off.Store(true)
		keeper.Fit = func(context.Context) error {
			if asked.Add(1); off.Load() {
				return errOff
			}
			return nil
		}
		bustest.Running(t, follower.Run)
		bustest.Running(t, keeper.Run)
		ledgertest.Booked(t, l, k.Person(booking.User), time.Hour)
		ledgertest.Await(t, l, follower.Board())
		before := asked.Load()
		wait.Until(t, "it is asked whether it is fit", func() bool { return asked.Load() > before+6 })
		if len(attended) > 0 {
			t.Error("it attends to bookings with a clock that is off")
		}
		off.Store(false)
		select {
		case <-attended:
		case <-time.After(wait.Patience):
			t.Error("it does not begin")
		}
	})
}

// An instance that keeps failing leaves its messages to the others after a while, whatever the
// reason.
func TestSchedulerThatFails(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		user, l := k.Person(booking.User), k.Ledger(t)
		var overdue []booking.ID
		tried := make(chan struct{}, 1)
		newTiming(k, t, func(c *booking.ProcessManagerConfig) {
			c.Act = func(context.Context) (booking.Actor, string, error) {
				select {
				case tried <- struct{}{}:
				default:
				}
				return booking.Actor{}, "", trust.ErrNoIdentity
			}
		})
		for range 5 {
			overdue = append(overdue, ledgertest.Booked(t, l, user, time.Nanosecond))
		}
		select {
		case <-tried:
		case <-time.After(wait.Patience):
			t.Fatal("it does not begin")
		}
		newTiming(k, t)
		for _, id := range overdue {
			wait.Until(t, "somebody else ends it", func() bool {
				return ledgertest.State(t, l,
					id) == booking.StateExpired
			})
		}
	})
}
