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
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// ClockTolerance is how far this machine's clock may differ from that of the server that stores
// events. Tokens are verified by both; [token.EventLeeway] covers the difference and the duration
// of an append.
const ClockTolerance = 5 * time.Second

const (
	clockPace  = 5 * time.Second // between two comparisons, on average
	clockRetry = time.Second     // while the clocks differ, or nobody answers
	clockFirst = 20 * time.Millisecond
)

// A Clock compares this machine's clock with that of the server that leads the ledger and dates its
// events. Between comparisons it relies on the process's monotonic clock, so a jump of the wall
// clock is noticed at the next use. Call Run.
type Clock struct {
	conn *bus.Conn
	wall func() time.Time // nil: this machine's
	last atomic.Pointer[reading]
}

// A reading is what a server has said of the time, between two times on this process's monotonic
// clock.
type reading struct {
	server       time.Time
	asked, heard time.Time
	by           string // the server's name; empty without a cluster
}

// ClockOptions are the settings of a Clock. The zero value works.
type ClockOptions struct {
	Now        func() time.Time      // the wall clock; default: this machine's
	Registerer prometheus.Registerer // nil: the gauge is not registered
}

// NewClock returns a clock that has not been compared yet, and registers its gauge.
func NewClock(c *bus.Conn, o ClockOptions) *Clock {
	k := &Clock{conn: c, wall: o.Now}
	promauto.With(o.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "clock_offset_seconds",
		Help: "How far this machine's clock is ahead of that of the server that stores events; negative " +
			"where it is behind, NaN before the first comparison.",
	}, k.seconds)
	return k
}

// Run compares the clock until ctx ends, and then returns nil. It waits for NATS and for the
// ledger.
func (k *Clock) Run(ctx context.Context) error {
	off := false
	next := time.Now() // when to ask again, by the monotonic clock
	for {
		wrong := k.Right()
		if k.last.Load() != nil && (wrong != nil) != off {
			off = !off
			k.say(off, wrong)
		}
		if wrong != nil || !time.Now().Before(next) {
			if err := k.look(ctx); err != nil && ctx.Err() == nil {
				k.conn.Log().Debug("the ledger's leader does not tell the time", "error", err)
			} else {
				next = time.Now().Add(clockPace/2 +
					rand.N(clockPace)) //nolint:gosec // so that instances do not ask at the same time
			}
		}
		wait := clockRetry
		if k.last.Load() == nil {
			wait = clockFirst
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

func (k *Clock) say(off bool, wrong error) {
	if off {
		k.conn.Log().Error("the clock is wrong; nothing that depends on it is done here until it is right", "error",
			wrong)
		return
	}
	k.conn.Log().Info("the clock is right again")
}

// look asks the ledger's leader for the time.
func (k *Clock) look(ctx context.Context) error {
	if err := k.conn.Ready(ctx); err != nil {
		return err
	}
	asked := time.Now()
	// only the leader answers, whose clock dates messages
	stream, err := k.conn.Stream(ctx, bus.LedgerStream)
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

// offset returns how far this machine's clock is ahead of the server's: at least, and at most. Both
// are negative where it is behind.
func (k *Clock) offset(r *reading) (least, most time.Duration) {
	steady := time.Now()
	wall := steady
	if k.wall != nil {
		wall = k.wall()
	}
	// The server's time has no monotonic reading, so this compares wall clocks.
	return wall.Sub(r.server.Add(steady.Sub(r.asked))), wall.Sub(r.server.Add(steady.Sub(r.heard)))
}

// Right returns nil where the clock is within ClockTolerance. It returns token.ErrClock where it is
// not, with the remedy as the cause, and bus.ErrUnavailable before the first comparison. It is fast
// and asks nobody.
func (k *Clock) Right() error {
	r := k.last.Load()
	if r == nil {
		return bus.ErrUnavailable.Because(errNotCompared)
	}
	least, most := k.offset(r)
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
	return token.ErrClock.Because(fmt.Errorf("it is %v %s that of %s, and may be %v off: synchronise the wrong "+
		"one with a time server (NTP), and this process goes on by itself",
		by.Round(time.Millisecond), which, server, ClockTolerance))
}

var errNotCompared = errors.New("it has not been compared yet with that of the NATS server that stores bookings")

// Ready is Right, for operators.
func (k *Clock) Ready(context.Context) error {
	if k.last.Load() == nil {
		return errNotCompared
	}
	return k.Right()
}

// seconds is the middle of what offset returns, in seconds.
func (k *Clock) seconds() float64 {
	r := k.last.Load()
	if r == nil {
		return math.NaN()
	}
	least, most := k.offset(r)
	return ((least + most) / 2).Seconds()
}
