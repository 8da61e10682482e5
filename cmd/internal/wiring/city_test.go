package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/example/pillion/authsvc/orders"
	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/sim"
)

// TestHour plays the people of a city for HOURS hours in virtual time, one after the other. In each
// hour every mishap happens once. SEED is the seed of the first hour.
func TestHour(t *testing.T) {
	for seed := range seeds(t, "HOURS") {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				w := newTown(t, seed)
				plan := mishaps()
				w.chance.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
				w.hour(seed, 8, plan)
			})
		})
	}
}

// TestRush plays a minute in which all riders want the same bookings, many users change their
// minds, and a process dies. SEED repeats it.
func TestRush(t *testing.T) {
	seed := seed(t)
	bustest.Bubble(t, func(t *testing.T) { newTown(t, seed).rush(seed) })
}

// TestDay plays DAYS whole days, one after the other, with random mishaps in every hour. SEED is
// the seed of the first day.
func TestDay(t *testing.T) {
	for seed := range seeds(t, "DAYS") {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				w := newTown(t, seed)
				all := mishaps()
				for hour := range 24 {
					w.hour(seed, hour, []mishap{all[w.chance.IntN(len(all))], all[w.chance.IntN(len(all))]})
					if hour%6 == 0 {
						w.rush(seed + uint64(hour))
					}
				}
			})
		})
	}
}

// seeds yields as many seeds as a variable says, and skips the test if it says none.
func seeds(t *testing.T, variable string) iter.Seq[uint64] {
	t.Helper()
	n, _ := strconv.ParseUint(os.Getenv(variable), 10, 16)
	if n == 0 {
		t.Skip("make check and make check-long run this with " + variable)
	}
	first := seed(t)
	return func(yield func(uint64) bool) {
		for i := range n {
			if !yield(first + i) {
				return
			}
		}
	}
}

// seed returns the seed of a test, and logs it.
func seed(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("SEED=%d", seed)
	return seed
}

// A mishap is something that goes wrong for a while. When strike returns, it is over.
type mishap struct {
	name   string
	strike func(*town)
}

func mishaps() []mishap {
	return []mishap{
		{"usersvc and ridersvc die", func(w *town) {
			h := w.hosts[1+w.chance.IntN(2)]
			h.kill()
			w.pause(5*time.Second, 90*time.Second)
			h.start()
		}},
		{"authsvc is away", func(w *town) {
			w.hosts[0].kill()
			w.pause(time.Minute, 6*time.Minute)
			w.hosts[0].start()
		}},
		{"the keys rotate", func(w *town) {
			order, err := json.Marshal(orders.Order{Command: "rotate", Actor: "an operator"})
			if err == nil {
				_, err = trust.AskAuth(w.t.Context(), w.watcher, order)
			}
			if err != nil {
				w.t.Errorf("rotate the keys: %v", err)
			}
		}},
		{"a clock is wrong", func(w *town) {
			h := w.hosts[w.chance.IntN(len(w.hosts))]
			skew := 10*time.Second + time.Duration(w.chance.Int64N(int64(time.Hour)))
			if w.chance.IntN(2) == 0 {
				skew = -skew
			}
			h.skew.Store(int64(skew))
			w.pause(time.Minute, 4*time.Minute)
			h.skew.Store(0)
		}},
	}
}

// pause lets some virtual time pass.
func (w *town) pause(least, most time.Duration) {
	retry.Sleep(w.t.Context(), least+time.Duration(w.chance.Int64N(int64(most-least))))
}

const (
	users  = 8
	riders = 10
)

// hour plays the city from an hour of the day on, with mishaps at random moments.
func (w *town) hour(seed uint64, of int, plan []mishap) {
	w.t.Helper()
	city := sim.City{
		Seed: seed, Users: users, Riders: riders, Rides: 20, Begin: time.Duration(of)*time.Hour + time.Second,
	}
	w.play(city.Scene(), time.Hour, func() {
		for _, m := range plan {
			w.pause(time.Minute, time.Hour/time.Duration(len(plan))-7*time.Minute)
			w.t.Logf("%02d:00, %s: %s", of, time.Now().UTC().Format(time.TimeOnly), m.name)
			m.strike(w)
		}
	})
}

// rush plays a minute of haste.
func (w *town) rush(seed uint64) {
	w.t.Helper()
	crowd, err := sim.Crowd{
		Seed: seed, Users: users, Riders: riders, Rate: 3, Think: time.Second,
		Weights: &sim.Weights{Places: 0.5, Cancel: 0.3, Release: 0.1, Named: 0.5, Rate: 0.5},
	}.Scene()
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.play(crowd, time.Minute, func() {
		w.pause(10*time.Second, 40*time.Second)
		mishaps()[0].strike(w)
	})
	if r.Events[booking.Completed] == 0 || r.Events[booking.Cancelled] == 0 {
		w.t.Errorf("little has happened: %v", r.Events)
	}
}

// play plays a scene while things go wrong, and judges the system afterwards. It stops the test if
// that finds anything.
func (w *town) play(s sim.Scene, d time.Duration, meanwhile func()) (report *sim.Report) {
	w.t.Helper()
	played, seed := make(chan error, 1), w.chance.Uint64()
	go func() {
		var err error
		report, err = sim.Run(w.t.Context(), sim.Config{
			Auth: []string{"http://auth.auth"}, User: []string{"http://one.user", "http://two.user"},
			Rider: []string{"http://one.rider", "http://two.rider"}, HTTP: w.client(),
			NATS: &bus.Config{InProcess: direct{w.server.Provider()}}, Watchers: 4,
			Scene: s, Duration: d, Patience: 5 * time.Minute, Seed: seed,
			Name: "town", Password: "everybody in the town",
		})
		played <- err
	}()
	meanwhile()
	if err := <-played; err != nil {
		w.t.Fatalf("%v\n%s", err, w.log)
	}
	o := Operator{
		Log: slog.New(slog.DiscardHandler), At: bus.Config{InProcess: direct{w.server.Provider()}},
		Key: access.KeyFile(w.services(), access.Operator),
	}
	err := o.Session(w.t.Context(), time.Hour, func(ctx context.Context, s OperatorSession) error {
		return w.judge(ctx, s, report)
	})
	if err != nil {
		w.t.Errorf("judge: %v", err)
	}
	if w.t.Failed() {
		w.t.Fatalf("the log:\n%s", w.log)
	}
	return report
}

// judge fails the test unless all of this holds: no answer was wrong; every acknowledged event is
// in the ledger, which has no other faults; all bookings have ended; each board is what a fresh
// replay gives; and the feed has told of each event, in order.
func (w *town) judge(ctx context.Context, s OperatorSession, r *sim.Report) error {
	for _, v := range r.Violations {
		w.t.Errorf("violation: %+v", v)
	}
	if r.Watched.Missing > 0 {
		w.t.Errorf("watchers: %+v", r.Watched)
	}
	if err := w.quiet(ctx, s); err != nil {
		w.t.Errorf("something is left to do: %v", err)
	}
	found, err := inspect.Run(ctx, s.Ledger(), inspect.Options{Acknowledged: r.Acknowledged()})
	if err != nil {
		return err
	}
	for _, f := range found.Findings {
		w.t.Errorf("found %s", f)
	}
	if len(found.Refused) > 0 {
		w.t.Errorf("refused: %v", found.Refused)
	}
	seqs, err := w.sequences(ctx, s)
	if err != nil {
		return err
	}
	w.feed(found, seqs)
	for _, h := range w.hosts[1:] {
		if err := h.rides.board.Await(ctx, found.Last); err != nil {
			return err
		}
		for id := range seqs {
			got, _ := h.rides.board.Get(id)
			if want, _ := found.Board.Get(id); !reflect.DeepEqual(got, want) {
				w.t.Errorf("the board of %s has\n%+v, and a replay\n%+v", h.name, got, want)
			}
		}
	}
	w.t.Logf("%v, %d acknowledged; bookings: %v", r.Events, len(r.Acknowledged()), found.Bookings)
	return nil
}

// quiet waits until the system has no work of its own left.
func (w *town) quiet(ctx context.Context, s OperatorSession) (left error) {
	for range 60 {
		found, err := inspect.Run(ctx, s.Ledger(), inspect.Options{})
		if err != nil {
			return err
		}
		left = nil
		ended := found.Bookings[booking.StateCompleted] + found.Bookings[booking.StateCancelled] +
			found.Bookings[booking.StateExpired]
		sum := 0
		for n := range maps.Values(found.Bookings) {
			sum += n
		}
		if ended < sum {
			left = fmt.Errorf("bookings without an end: %v", found.Bookings)
		}
		if turn, _, err := w.watcher.FeedTurn(ctx); err != nil || turn.Done < found.Last {
			left = errors.Join(left, fmt.Errorf("the feed is at %d of %d: %w", turn.Done, found.Last, err))
		}
		if left == nil || !retry.Sleep(ctx, 30*time.Second) {
			return left
		}
	}
	return left
}

// sequences returns where the ledger has the events of each booking that the feed has told of.
func (w *town) sequences(ctx context.Context, s OperatorSession) (map[booking.ID]map[booking.EventID]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seqs := make(map[booking.ID]map[booking.EventID]uint64)
	for _, e := range w.told {
		if seqs[e.Booking] != nil {
			continue
		}
		h, err := s.Ledger().Load(ctx, e.Booking, booking.Fresh)
		if err != nil {
			return nil, err
		}
		seqs[e.Booking] = make(map[booking.EventID]uint64)
		for _, c := range h.Changes() {
			seqs[e.Booking][c.Event.ID] = c.Event.Seq
		}
	}
	return seqs, nil
}

// feed fails the test unless the feed has told of every event, and for the first time in the order
// of the ledger.
func (w *town) feed(found inspect.Report, seqs map[booking.ID]map[booking.EventID]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	told, last := make(map[booking.EventID]bool), uint64(0)
	for _, e := range w.told {
		if told[e.Event] {
			continue
		}
		told[e.Event] = true
		seq, stored := seqs[e.Booking][e.Event]
		if !stored || seq <= last {
			w.t.Errorf("the feed tells of %s %d (%d) after %d; stored: %v", e.Kind, seq, e.N, last, stored)
		}
		last = seq
	}
	sum := 0
	for n := range maps.Values(found.Events) {
		sum += n
	}
	if sum != len(told) {
		w.t.Errorf("the feed has told of %d events, and the ledger has %d", len(told), sum)
	}
}
