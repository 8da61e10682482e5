package bus_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
)

// A timing is one instance of a service that keeps the time.
type timing struct {
	ledger *bus.Ledger
	stop   func()
}

// timekeeper runs an instance until it is stopped, or the test ends.
func (k *kit) timekeeper(t *testing.T, change ...func(*booking.ProcessManagerConfig)) *timing {
	t.Helper()
	return k.timekeeperWhile(t, nil, change...)
}

// timekeeperWhile is timekeeper for an instance that is not always fit for it.
func (k *kit) timekeeperWhile(t *testing.T, fit func(context.Context) error, change ...func(*booking.ProcessManagerConfig)) *timing {
	t.Helper()
	ledger := k.ledger(t)
	board, _ := follow(t, ledger)
	service := k.person(booking.Service)
	config := booking.ProcessManagerConfig{
		Desk: newDesk(t, ledger), Board: board,
		Act: func(context.Context) (booking.Actor, string, error) { return service.Actor, service.proof, nil },
	}
	for _, c := range change {
		c(&config)
	}
	steward, err := booking.NewProcessManager(config)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := ledger.Timekeeper(board, steward)
	if err != nil {
		t.Fatal(err)
	}
	keeper.Fit = fit
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- keeper.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return &timing{ledger, stop}
}

func booked(t *testing.T, l *bus.Ledger, p person, deadline time.Duration, trip ...booking.Trip) booking.ID {
	t.Helper()
	d, err := booking.NewDesk(l, booking.DeskOptions{Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Book(t.Context(), p.command(), booking.ID(booking.NewID()), append(trip, booking.Trip{})[0])
	if err != nil {
		t.Fatal(err)
	}
	return b.ID
}

func state(t *testing.T, l *bus.Ledger, id booking.ID) booking.State {
	t.Helper()
	h, err := l.Load(t.Context(), id, booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	return h.Booking.State
}

// Bookings that nobody accepts expire soon after their deadline and never before, those that somebody accepted do not, and no death of an
// instance leaves one without its end.
func TestDeadlines(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := newKit(t, e)
		user, rider := k.person(booking.User), k.person(booking.Rider)
		l := k.ledger(t)
		desk := newDesk(t, l)

		// Booked while nobody keeps the time, one of them so that its deadline is over by the time that somebody does.
		past := booked(t, l, user, time.Nanosecond)
		first := k.timekeeper(t)
		wait.Until(t, "what was overdue has expired", func() bool { return state(t, l, past) == booking.StateExpired })

		soon, later, taken := booked(t, l, user, 2*time.Second), booked(t, l, user, time.Hour), booked(t, l, user, 2*time.Second)
		if _, err := desk.Accept(t.Context(), rider.command(), taken); err != nil {
			t.Fatal(err)
		}
		first.stop() // whether it has armed the timers or not
		k.timekeeper(t)
		k.timekeeper(t)
		wait.Until(t, "what was booked before the change has expired", func() bool { return state(t, l, soon) == booking.StateExpired })
		h, err := l.Load(t.Context(), soon, booking.Fresh)
		if err != nil {
			t.Fatal(err)
		}
		if at := h.Events[1].At; at.Before(h.Booking.Deadline) || len(h.Events) != 2 || h.Events[1].Actor.Role != booking.Service {
			t.Errorf("it expired %v after its deadline: %+v", at.Sub(h.Booking.Deadline), h.Events[1])
		}
		if got := state(t, l, taken); got != booking.StateAccepted {
			t.Errorf("the one that was accepted is %s", got)
		}
		if got := state(t, l, later); got != booking.StateOpen {
			t.Errorf("the one that has time is %s", got)
		}
		// Released, it has a new deadline.
		d, err := booking.NewDesk(l, booking.DeskOptions{Deadline: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Release(t.Context(), rider.command(), taken, "puncture"); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the one that was released has expired", func() bool { return state(t, l, taken) == booking.StateExpired })
	})
}

// A duty is what a test does when it is time. Whoever asks for a ride wants to be looked after at its deadline.
type duty struct {
	expire func(context.Context, time.Time) (int, error)
}

func (d duty) Expire(ctx context.Context, at time.Time) (int, error) { return d.expire(ctx, at) }

func (duty) ReleaseNoShows(context.Context, time.Time) (time.Time, error) { return time.Time{}, nil }

func (duty) Attend(_ context.Context, e booking.Event) (time.Time, error) { return e.Deadline, nil }

// dutiful returns a timekeeper that does its duty by a board which is fed by nobody.
func (k *kit) dutiful(t *testing.T, d duty) (*bus.Ledger, *board.Board, *bus.Timekeeper) {
	t.Helper()
	ledger, board := k.ledger(t), board.New()
	keeper, err := ledger.Timekeeper(board, d)
	if err != nil {
		t.Fatal(err)
	}
	return ledger, board, keeper
}

// timers returns the stream of timers, and how many that have gone off are with somebody who has not done what is due.
func timers(t *testing.T, c *bus.Conn) (jetstream.Stream, int) {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), bus.TimersStream)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := s.Consumer(t.Context(), bus.TimersConsumer)
	if err != nil {
		t.Fatal(err)
	}
	return s, consumer.CachedInfo().NumAckPending
}

// A timer goes off after the deadline that it is for: nothing would be overdue before, and nobody would look again.
func TestTimersAreLateEnough(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	ledger, _, keeper := k.dutiful(t, duty{})
	running(t, keeper.Run)
	h, err := ledger.Load(t.Context(), booked(t, ledger, k.person(booking.User), time.Hour), booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	conn := k.Connect(t)
	var armed *jetstream.RawStreamMsg
	wait.Until(t, "a timer is armed", func() bool {
		s, _ := timers(t, conn)
		armed, err = s.GetLastMsgForSubject(t.Context(), "timer.set.*")
		return err == nil
	})
	at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(armed.Header.Get("Nats-Schedule"), "@at "))
	if early := h.Booking.Deadline.Add(time.Second).Sub(at); err != nil || early > 0 {
		t.Errorf("its timer goes off at %v, and the deadline is %v: %v", at, h.Booking.Deadline, err)
	}
}

// What is due is done by a board that has everything which was stored until then.
func TestTimersWaitForTheBoard(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	had := make(chan uint64, 1) // what the board had when somebody looked for what is overdue
	var board *board.Board
	ledger, board, keeper := k.dutiful(t, duty{func(context.Context, time.Time) (int, error) {
		select {
		case had <- board.Seq():
		default:
		}
		return 0, nil
	}})
	booked(t, ledger, k.person(booking.User), time.Nanosecond)
	last, err := ledger.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running(t, keeper.Run)
	conn := k.Connect(t)
	wait.Until(t, "the timer has gone off", func() bool {
		_, n := timers(t, conn)
		return n > 0 || len(had) > 0
	})
	running(t, ledger.Follow(board).Run)
	select {
	case seq := <-had:
		if seq < last {
			t.Errorf("the board had %d of %d", seq, last)
		}
	case <-time.After(time.Minute):
		t.Error("nothing is done")
	}
}

// What an instance is at when it stops, another one does.
func TestWorkUnderWayIsGivenBack(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	begun := make(chan struct{}, 1)
	ledger, board, keeper := k.dutiful(t, duty{func(ctx context.Context, _ time.Time) (int, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	running(t, ledger.Follow(board).Run)
	booked(t, ledger, k.person(booking.User), time.Nanosecond)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- keeper.Run(ctx) }()
	<-begun
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, n := timers(t, k.Connect(t)); n != 1 {
		t.Fatalf("%d timers are undone, want 1", n)
	}
	again := make(chan struct{}, 1)
	other, board, next := k.dutiful(t, duty{func(context.Context, time.Time) (int, error) {
		select {
		case again <- struct{}{}:
		default:
		}
		return 0, nil
	}})
	running(t, other.Follow(board).Run)
	running(t, next.Run)
	select {
	case <-again:
	case <-time.After(time.Minute):
		t.Error("nobody else does it")
	}
}

// Whoever says that it is later than it is changes nothing, nor does what is no event of ours.
func TestForgedTimers(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	user := k.person(booking.User)
	l := k.ledger(t)
	k.timekeeper(t)
	id := booked(t, l, user, time.Hour)
	conn := k.Connect(t)
	for _, m := range []*nats.Msg{
		{Subject: "timer.due.4102444800"}, {Subject: "timer.due.x"}, {Subject: "timer.due.1"},
		{Subject: "timer.due.2", Header: nats.Header{"Status": {"404"}}},
		message(booking.ID(booking.NewID()), 1, booking.Requested, user.Actor, "no token"),
		message(id, 2, booking.StartRefused, k.person(booking.Rider).Actor, k.person(booking.Rider).proof),
	} {
		store(t, conn, m)
	}
	next := booked(t, l, user, time.Nanosecond) // behind all of them
	wait.Until(t, "the next booking expires", func() bool { return state(t, l, next) == booking.StateExpired })
	if got := state(t, l, id); got != booking.StateOpen {
		t.Errorf("the booking that has time is %s", got)
	}
}

// The fifth wrong code costs the rider the booking, by itself.
func TestWrongCodesRelease(t *testing.T) {
	t.Parallel() // most of it is waiting
	k := newKit(t, bustest.Run(t))
	user, rider := k.person(booking.User), k.person(booking.Rider)
	l := k.ledger(t)
	k.timekeeper(t)
	desk := newDesk(t, l)
	id := booked(t, l, user, time.Hour)
	must := func(_ booking.Booking, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(desk.Accept(t.Context(), rider.command(), id))
	must(desk.Arrive(t.Context(), rider.command(), id))
	for range booking.MaxWrongCodes {
		must(desk.RefuseStart(t.Context(), rider.command(), id))
	}
	wait.Until(t, "the booking is open again", func() bool { return state(t, l, id) == booking.StateOpen })
	h, err := l.Load(t.Context(), id, booking.Fresh)
	if err != nil || h.Booking.Reason != booking.ReasonWrongCodes || h.Events[len(h.Events)-1].Actor.Role != booking.Service {
		t.Errorf("it was released because of %q: %v", h.Booking.Reason, err)
	}
}

// A rider who has accepted and neither arrives nor moves loses the booking, and one who moves keeps it until that ends; who has arrived is left alone.
func TestRecall(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := newKit(t, e)
		user := k.person(booking.User)
		idle, moving, there := k.person(booking.Rider), k.person(booking.Rider), k.person(booking.Rider)
		l := k.ledger(t)
		desk := newDesk(t, l)
		const patience = 2 * time.Second
		var stopped atomic.Pointer[time.Time]
		k.timekeeper(t, func(c *booking.ProcessManagerConfig) {
			c.Patience = patience
			c.Approach = func(b booking.Booking) booking.Approach {
				if b.Rider != booking.RiderID(moving.ID) {
					return booking.Approach{}
				}
				if at := stopped.Load(); at != nil {
					return booking.Approach{At: *at, Metres: 1e6}
				}
				return booking.Approach{At: time.Now(), Metres: 1e6}
			}
		})
		ids := map[string]booking.ID{}
		for name, rider := range map[string]person{"idle": idle, "moving": moving, "there": there} {
			ids[name] = booked(t, l, user, time.Hour, booking.Trip{Pickup: &booking.Place{Lat: 1}, Dropoff: &booking.Place{Lat: 2}})
			if _, err := desk.Accept(t.Context(), rider.command(), ids[name]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := desk.Arrive(t.Context(), there.command(), ids["there"]); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the idle rider has lost the booking", func() bool { return state(t, l, ids["idle"]) == booking.StateOpen })
		h, err := l.Load(t.Context(), ids["idle"], booking.Fresh)
		if err != nil || h.Booking.Reason != booking.ReasonNotComing || h.Events[2].At.Sub(h.Events[1].At) < patience {
			t.Errorf("it was released because of %q, %v after it was accepted: %v", h.Booking.Reason, h.Events[2].At.Sub(h.Events[1].At), err)
		}
		if got := state(t, l, ids["moving"]); got != booking.StateAccepted {
			t.Errorf("the booking of the rider who moves is %s", got)
		}
		now := time.Now()
		stopped.Store(&now)
		wait.Until(t, "the rider who has stopped has lost the booking", func() bool { return state(t, l, ids["moving"]) == booking.StateOpen })
		if got := state(t, l, ids["there"]); got != booking.StateArrived {
			t.Errorf("the booking of the rider who has arrived is %s", got)
		}
	})
}
