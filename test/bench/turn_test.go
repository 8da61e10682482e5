package bench

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/internal/retry"
)

// A turn is what a system did while it was its turn.
type turn struct {
	began   time.Time
	done    int           // tasks
	took    time.Duration // until everything that followed from them was done
	behind  time.Duration // the last part of it, when clients had ended
	latency *hdrhistogram.Histogram
	used    usage
	load    time.Duration // processor time of this process, which makes the load
}

// rate returns tasks a second.
func (t turn) rate() float64 { return float64(t.done) / t.took.Seconds() }

// A pace says when clients begin a task.
type pace struct {
	clients int
	length  time.Duration
	// rate is how many tasks are due a second. 0: a client begins the next one at once.
	rate float64
}

// take gives a system its turn.
func (s *system) take(b *testing.B, p pace, t task) turn {
	b.Helper()
	s.resume(b)
	defer s.pause(b)
	s.settle(b)
	clients := s.clients(p.clients)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	work(b, clients, pace{length: *turnTime / 10}, bookTask) // connections and caches are warm now
	s.settle(b)
	syscall.Sync() // what another system has yet to write is no longer in the way

	before, load, began := s.usage(b), ownCPU(b), time.Now()
	got := work(b, clients, p, t)
	worked := time.Since(began)
	got.began, got.load = began, ownCPU(b)-load
	s.settle(b)
	got.took = time.Since(began)
	got.behind = got.took - worked
	got.used = s.usage(b).since(before)
	s.undo(b, clients, t)
	return got
}

// work has clients do a task at a pace, and returns how many they did and how long each took: from
// when it was due, where there is a rate.
func work(b testing.TB, clients []*client, p pace, t task) turn {
	b.Helper()
	all := turn{latency: newHistogram()}
	var due atomic.Int64
	began := time.Now()
	results := make([]turn, len(clients))
	var g errgroup.Group
	for i, c := range clients {
		g.Go(func() error {
			r := turn{latency: newHistogram()}
			defer func() { results[i] = r }()
			for {
				start := time.Now()
				if p.rate > 0 {
					start = began.Add(time.Duration(float64(due.Add(1)-1) / p.rate * float64(time.Second)))
				}
				if start.Sub(began) >= p.length {
					return nil
				}
				if p.rate > 0 && !retry.Sleep(b.Context(), time.Until(start)) {
					return b.Context().Err()
				}
				err := t.do(c)
				if errors.Is(err, errNothingLeft) {
					return nil
				}
				if err != nil {
					return err
				}
				r.done++
				if err := r.latency.RecordValue(time.Since(start).Microseconds()); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	for _, r := range results {
		all.done += r.done
		all.latency.Merge(r.latency)
	}
	return all
}

// undo prepares the next turn, and notes what has been accepted.
func (s *system) undo(b *testing.B, clients []*client, t task) {
	b.Helper()
	var g errgroup.Group
	for _, c := range clients {
		s.accepted = append(s.accepted, c.rides...)
		if t.undo == nil {
			continue
		}
		g.Go(func() error {
			for _, r := range c.rides {
				if err := t.undo(c, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// newHistogram returns a histogram of microseconds, up to ten minutes, with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

// quantile returns a quantile in milliseconds.
func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	return float64(h.ValueAtQuantile(q)) / 1000
}

// ownCPU returns the processor time that this process has used.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
