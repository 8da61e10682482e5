package trust

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// ClockTolerance is how far this machine's clock may be from that of the server that stores events. Tokens are judged by the one here and by
// the one there, and [token.EventLeeway] covers this difference and the time that an append takes.
const ClockTolerance = 5 * time.Second

const (
	clockPace  = 5 * time.Second // between two looks at the server's clock, on average
	clockRetry = time.Second     // while the two differ, or nobody answers
	clockFirst = 20 * time.Millisecond
)

// A Clock tells whether this machine's clock can be gone by: whether it is within ClockTolerance of that of the server that leads the ledger,
// by which events are stored. It asks that server now and then, and goes by the steady clock of the process in between, so that a clock that
// jumps is noticed at the next use and not at the next question. Call Run.
type Clock struct {
	conn *bus.Conn
	wall func() time.Time // nil: this machine's
	last atomic.Pointer[reading]
}

// A reading is what a server has said of the time. It was said between the two others, which are steady: this process's, whatever its wall clock does.
type reading struct {
	server       time.Time
	asked, heard time.Time
	by           string // the server; empty where there is but one
}

// ClockOptions are a Clock's settings; its zero value works.
type ClockOptions struct {
	Now        func() time.Time      // the wall clock; default: this machine's
	Registerer prometheus.Registerer // nil: the gauge is not registered
}

// Clock returns a clock that nobody has compared yet. It fails where the gauge is registered already.
func NewClock(c *bus.Conn, o ClockOptions) (*Clock, error) {
	k := &Clock{conn: c, wall: o.Now}
	if o.Registerer != nil {
		if err := o.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "clock_offset_seconds",
			Help: "How far this machine's clock is ahead of that of the server that stores events, negative where it is behind; NaN before it was compared.",
		}, k.offset)); err != nil {
			return nil, fmt.Errorf("watch the clock: %w", err)
		}
	}
	return k, nil
}

// Run compares the clock until ctx ends, and then returns nil. It waits for NATS and for the ledger.
func (k *Clock) Run(ctx context.Context) error {
	off := false
	next := time.Now() // when to ask again, by the steady clock
	for {
		wrong := k.Right()
		if k.last.Load() != nil && (wrong != nil) != off {
			off = !off
			k.say(off, wrong)
		}
		if wrong != nil || !time.Now().Before(next) {
			if err := k.look(ctx); err != nil && ctx.Err() == nil {
				k.conn.Log().Debug("the ledger's leader does not say what time it is", "error", err)
			} else {
				next = time.Now().Add(clockPace/2 + rand.N(clockPace)) //nolint:gosec // so that instances do not ask all at once
			}
		}
		wait := clockRetry
		if k.last.Load() == nil {
			wait = clockFirst
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *Clock) say(off bool, wrong error) {
	if off {
		k.conn.Log().Error("the clock cannot be gone by; nothing is done here that depends on it until it is right", "error", wrong)
		return
	}
	k.conn.Log().Info("the clock is right again")
}

// look asks the ledger's leader what time it is.
func (k *Clock) look(ctx context.Context) error {
	if err := k.conn.Ready(ctx); err != nil {
		return err
	}
	asked := time.Now()
	stream, err := k.conn.Stream(ctx, bus.LedgerStream) // only the leader answers, whose clock is the one that dates messages
	if err != nil {
		return err
	}
	r := reading{server: stream.CachedInfo().TimeStamp, asked: asked, heard: time.Now()}
	if c := stream.CachedInfo().Cluster; c != nil {
		r.by = c.Leader
	}
	if !r.server.IsZero() {
		k.last.Store(&r)
	}
	return nil
}

// ahead returns by how much this machine's clock is ahead of the server's: at least, and at most. Both are negative where it is behind.
func (k *Clock) ahead(r *reading) (least, most time.Duration) {
	steady := time.Now()
	wall := steady
	if k.wall != nil {
		wall = k.wall()
	}
	// What the server has said carries no steady clock, so this compares the wall's.
	return wall.Sub(r.server.Add(steady.Sub(r.asked))), wall.Sub(r.server.Add(steady.Sub(r.heard)))
}

// Right returns nil where the clock can be gone by. It returns token.ErrClock where it is wrong, with what to do about it as its
// cause, and ErrUnavailable where there was nobody to compare it with: then it is not the clock's fault. It is quick and asks nobody.
func (k *Clock) Right() error {
	r := k.last.Load()
	if r == nil {
		return bus.ErrUnavailable.Because(errNotCompared)
	}
	least, most := k.ahead(r)
	by, which := least, "ahead of"
	switch {
	case least > ClockTolerance:
	case most < -ClockTolerance:
		by, which = -most, "behind"
	default:
		return nil
	}
	server := "the NATS server that stores bookings"
	if r.by != "" {
		server += ", " + r.by
	}
	return token.ErrClock.Because(fmt.Errorf("it is %v %s that of %s, and may be %v off: set the one that is wrong by a time server (NTP), and this process goes on by itself",
		by.Round(time.Millisecond), which, server, ClockTolerance))
}

var errNotCompared = errors.New("it was not compared yet with that of the NATS server that stores bookings")

// Ready is Right, for operators.
func (k *Clock) Ready(context.Context) error {
	if k.last.Load() == nil {
		return errNotCompared
	}
	return k.Right()
}

// offset is the middle of what ahead returns, in seconds.
func (k *Clock) offset() float64 {
	r := k.last.Load()
	if r == nil {
		return math.NaN()
	}
	least, most := k.ahead(r)
	return ((least + most) / 2).Seconds()
}
