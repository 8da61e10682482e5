package timers_test

import (
	"context"
	"strconv"
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
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/timers"
	"github.com/example/pillion/internal/wait"
)

// A timing is one instance with a scheduler.
type timing struct {
	ledger *ledger.Ledger
	stop   func()
}

// newTiming runs an instance until it is stopped, or the test ends.
func newTiming(k *ledgertest.Kit, t *testing.T, change ...func(*booking.ProcessManagerConfig)) *timing {
	t.Helper()
	return newTimingWhile(k, t, k.Ledger(t), nil, change...)
}

// newTimingWhile is newTiming for an instance with a ledger of its own, which is not always fit.
func newTimingWhile(
	k *ledgertest.Kit, t *testing.T, ledger *ledger.Ledger, fit func(context.Context) error,
	change ...func(*booking.ProcessManagerConfig),
) *timing {
	t.Helper()
	board, follower := ledgertest.Follow(t, ledger)
	service := k.Person(booking.Service)
	config := booking.ProcessManagerConfig{
		Desk: ledgertest.NewDesk(t, ledger), Board: board,
		Act: func(context.Context) (booking.Actor, string, error) { return service.Actor, service.Proof, nil },
	}
	for _, c := range change {
		c(&config)
	}
	manager, err := booking.NewProcessManager(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for consumer, handler := range map[string]timers.Handler{
		bus.ExpiriesConsumer: booking.Expiries{ProcessManager: manager},
		bus.ReleasesConsumer: booking.Releases{ProcessManager: manager},
	} {
		keeper, err := timers.NewScheduler(ledger, follower, consumer, handler)
		if err != nil {
			t.Fatal(err)
		}
		keeper.Fit = fit
		go func() { done <- keeper.Run(ctx) }()
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return &timing{ledger, stop}
}

// Open bookings expire soon after their deadline and never before, accepted ones do not, and the
// death of an instance leaves no booking without its end.
func TestDeadlines(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		user, rider := k.Person(booking.User), k.Person(booking.Rider)
		l := k.Ledger(t)
		desk := ledgertest.NewDesk(t, l)

		// Booked while nobody keeps the time, one of them so that its deadline is over by the time
		// that somebody does.
		past := ledgertest.Booked(t, l, user, time.Nanosecond)
		first := newTiming(k, t)
		wait.Until(t, "what was overdue has expired", func() bool {
			return ledgertest.State(t, l,
				past) == booking.StateExpired
		})

		soon, later, taken := ledgertest.Booked(t, l, user, 2*time.Second), ledgertest.Booked(t, l, user, time.Hour),
			ledgertest.Booked(t, l, user, 2*time.Second)
		if _, err := desk.Accept(t.Context(), rider.Command(), taken); err != nil {
			t.Fatal(err)
		}
		first.stop() // whether it has armed the timers or not
		newTiming(k, t)
		newTiming(k, t)
		wait.Until(t, "what was booked before the change has expired",
			func() bool { return ledgertest.State(t, l, soon) == booking.StateExpired })
		h, err := l.Load(t.Context(), soon, booking.Fresh)
		if err != nil {
			t.Fatal(err)
		}
		if at := h.Events[1].At; at.Before(h.Booking.Deadline) || len(h.Events) != 2 ||
			h.Events[1].Actor.Role != booking.Service {
			t.Errorf("it expired %v after its deadline: %+v", at.Sub(h.Booking.Deadline), h.Events[1])
		}
		if got := ledgertest.State(t, l, taken); got != booking.StateAccepted {
			t.Errorf("the one that was accepted is %s", got)
		}
		if got := ledgertest.State(t, l, later); got != booking.StateOpen {
			t.Errorf("the one that has time is %s", got)
		}
		// Released, it has a new deadline.
		d, err := booking.NewDesk(l, booking.DeskOptions{Deadline: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Release(t.Context(), rider.Command(), taken, "puncture"); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the one that was released has expired",
			func() bool { return ledgertest.State(t, l, taken) == booking.StateExpired })
	})
}

// Timers that are lost are set again: a service that was taken over can empty their stream, while
// people ride, and nobody books any more.
func TestLostTimersAreSetAgain(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		l := k.Ledger(t)
		newTiming(k, t)
		open := ledgertest.Booked(t, l, k.Person(booking.User), 5*time.Second)
		for range 150 { // so that it is not on the first page of what is under way
			ledgertest.Booked(t, l, k.Person(booking.User), time.Hour)
		}
		js := k.Connect(t).JetStream()
		timers, err := js.Stream(t.Context(), bus.TimersStream)
		if err != nil {
			t.Fatal(err)
		}
		kept := func() uint64 {
			t.Helper()
			info, err := timers.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return info.State.Msgs
		}
		wait.Until(t, "the timers are set", func() bool { return kept() > 1 })
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "timer.set.1", Header: nats.Header{
			"Nats-Rollup": {"all"},
		}}); err != nil {
			t.Fatal(err)
		}
		if n := kept(); n != 1 {
			t.Fatalf("%d timers are left, want the attacker's only", n)
		}
		wait.Until(t, "it has expired", func() bool { return ledgertest.State(t, l, open) == booking.StateExpired })
	})
}

// A duty is a test's handler. Each booking wants attention at its deadline.
type duty struct {
	due    func(context.Context, time.Time) error
	attend func(booking.Booking) error // nil: it never fails
}

func (d duty) Due(ctx context.Context, at time.Time) (time.Time, error) {
	return time.Time{}, d.due(ctx, at)
}

func (d duty) Attend(_ context.Context, b booking.Booking) (time.Time, error) {
	if d.attend != nil {
		if err := d.attend(b); err != nil {
			return time.Time{}, err
		}
	}
	return b.Deadline, nil
}

// newDutiful returns a scheduler with a handler, and its follower, which the caller runs.
func newDutiful(k *ledgertest.Kit, t *testing.T, d duty) (*ledger.Ledger, *ledger.Follower, *timers.Scheduler) {
	t.Helper()
	ledger := k.Ledger(t)
	follower := ledger.Follow(board.New())
	keeper, err := timers.NewScheduler(ledger, follower, bus.ExpiriesConsumer, d)
	if err != nil {
		t.Fatal(err)
	}
	return ledger, follower, keeper
}

// timersStream returns the stream of timers, and how many fired timers are not acknowledged.
func timersStream(t *testing.T, c *bus.Conn) (jetstream.Stream, int) {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), bus.TimersStream)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := s.Consumer(t.Context(), bus.ExpiriesConsumer)
	if err != nil {
		t.Fatal(err)
	}
	return s, consumer.CachedInfo().NumAckPending
}

// A timer fires after its deadline: before, nothing would be overdue, and nobody would look again.
func TestTimersAreLateEnough(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ledger, follower, keeper := newDutiful(k, t, duty{})
	bustest.Running(t, follower.Run)
	bustest.Running(t, keeper.Run)
	h, err := ledger.Load(t.Context(), ledgertest.Booked(t, ledger, k.Person(booking.User), time.Hour), booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	conn := k.Connect(t)
	var armed *jetstream.RawStreamMsg
	wait.Until(t, "a timer is armed", func() bool {
		s, _ := timersStream(t, conn)
		armed, err = s.GetLastMsgForSubject(t.Context(), "timer.set.*")
		return err == nil
	})
	at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(armed.Header.Get("Nats-Schedule"), "@at "))
	if early := h.Booking.Deadline.Add(time.Second).Sub(at); err != nil || early > 0 {
		t.Errorf("its timer goes off at %v, and the deadline is %v: %v", at, h.Booking.Deadline, err)
	}
}

// A booking that cannot be attended to keeps no other one waiting, neither one that was there at
// the start nor a later one.
func TestOneFailureKeepsNobodyWaiting(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		user, l := k.Person(booking.User), k.Ledger(t)
		good, bad := ledgertest.Booked(t, l, user, time.Hour), ledgertest.Booked(t, l, user, time.Hour)
		attended := make(chan booking.ID, 1)
		_, follower, keeper := newDutiful(k, t, duty{attend: func(b booking.Booking) error {
			if b.ID == bad {
				return errOff
			}
			select {
			case attended <- b.ID:
			default:
			}
			return nil
		}})
		bustest.Running(t, follower.Run)
		bustest.Running(t, keeper.Run)
		await := func(id booking.ID) {
			t.Helper()
			over := time.After(wait.Patience)
			for {
				select {
				case got := <-attended:
					if got == id {
						return
					}
				case <-over:
					t.Fatal("a booking is not attended to")
				}
			}
		}
		await(good)
		await(ledgertest.Booked(t, l, user, time.Hour))
	})
}

// The handler runs when the board has everything that was stored by then.
func TestTimersWaitForTheBoard(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	had := make(chan uint64, 1) // what the board had when somebody looked for what is overdue
	var follower *ledger.Follower
	ledger, follower, keeper := newDutiful(k, t, duty{due: func(context.Context, time.Time) error {
		select {
		case had <- follower.Board().Seq():
		default:
		}
		return nil
	}})
	ledgertest.Booked(t, ledger, k.Person(booking.User), time.Nanosecond)
	last, err := ledger.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, keeper.Run)
	conn := k.Connect(t)
	// Another instance has set it.
	ledgertest.Store(t, conn, &nats.Msg{Subject: "timer.set.1", Header: nats.Header{
		"Nats-Schedule": {"@at 1970-01-01T00:00:01Z"}, "Nats-Schedule-Target": {"timer.due.1"},
	}})
	wait.Until(t, "the timer has gone off", func() bool {
		_, n := timersStream(t, conn)
		return n > 0 || len(had) > 0
	})
	bustest.Running(t, follower.Run)
	select {
	case seq := <-had:
		if seq < last {
			t.Errorf("the board had %d of %d", seq, last)
		}
	case <-time.After(time.Minute):
		t.Error("nothing is done")
	}
}

// An instance that is busy with one timer holds no other one back.
func TestBusyInstanceHoldsNothingBack(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		begun, ended, others := make(chan struct{}, 8), make(chan struct{}, 8), make(chan struct{}, 8)
		_, follower, busy := newDutiful(k, t, duty{due: func(ctx context.Context, _ time.Time) error {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return ctx.Err()
		}})
		bustest.Running(t, follower.Run)
		bustest.Running(t, busy.Run)
		conn := k.Connect(t)
		set := func(n int) {
			second := strconv.Itoa(n)
			ledgertest.Store(t, conn, &nats.Msg{Subject: "timer.set." + second, Header: nats.Header{
				"Nats-Schedule":        {"@at 1970-01-01T00:00:0" + second + "Z"},
				"Nats-Schedule-Target": {"timer.due." + second},
			}})
		}
		for n := 1; n <= 5; n++ {
			set(n)
		}
		<-begun
		_, follower, free := newDutiful(k, t, duty{due: func(context.Context, time.Time) error {
			others <- struct{}{}
			return nil
		}})
		bustest.Running(t, follower.Run)
		bustest.Running(t, free.Run)
		for range 4 {
			select {
			case <-others:
			case <-ended:
				t.Fatal("the others wait for the one that takes long")
			}
		}
	})
}

// When an instance stops, another one finishes its work.
func TestWorkUnderWayIsGivenBack(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	begun := make(chan struct{}, 1)
	ledger, follower, keeper := newDutiful(k, t, duty{due: func(ctx context.Context, _ time.Time) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	bustest.Running(t, follower.Run)
	ledgertest.Booked(t, ledger, k.Person(booking.User), time.Nanosecond)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- keeper.Run(ctx) }()
	<-begun
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, n := timersStream(t, k.Connect(t)); n != 1 {
		t.Fatalf("%d timers are undone, want 1", n)
	}
	again := make(chan struct{}, 1)
	_, follower, next := newDutiful(k, t, duty{due: func(context.Context, time.Time) error {
		select {
		case again <- struct{}{}:
		default:
		}
		return nil
	}})
	bustest.Running(t, follower.Run)
	bustest.Running(t, next.Run)
	select {
	case <-again:
	case <-time.After(time.Minute):
		t.Error("nobody else does it")
	}
}

// A timer ahead of its time changes nothing, nor does a message that is not an event.
func TestForgedTimers(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	user := k.Person(booking.User)
	l := k.Ledger(t)
	newTiming(k, t)
	id := ledgertest.Booked(t, l, user, time.Hour)
	conn := k.Connect(t)
	for _, m := range []*nats.Msg{
		{Subject: "timer.due.4102444800"}, {Subject: "timer.due.x"}, {Subject: "timer.due.1"},
		{Subject: "timer.due.2", Header: nats.Header{"Status": {"404"}}},
		ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Requested, user.Actor, "no token"),
		ledgertest.Message(id, 2, booking.StartRefused, k.Person(booking.Rider).Actor, k.Person(booking.Rider).Proof),
	} {
		ledgertest.Store(t, conn, m)
	}
	next := ledgertest.Booked(t, l, user, time.Nanosecond) // behind all of them
	wait.Until(t, "the next booking expires", func() bool {
		return ledgertest.State(t, l,
			next) == booking.StateExpired
	})
	if got := ledgertest.State(t, l, id); got != booking.StateOpen {
		t.Errorf("the booking that has time is %s", got)
	}
}

// The fifth wrong code releases the booking by itself.
func TestWrongCodesRelease(t *testing.T) {
	t.Parallel() // most of it is waiting
	k := ledgertest.New(t, bustest.Run(t))
	user, rider := k.Person(booking.User), k.Person(booking.Rider)
	l := k.Ledger(t)
	newTiming(k, t)
	desk := ledgertest.NewDesk(t, l)
	id := ledgertest.Booked(t, l, user, time.Hour)
	must := func(_ booking.Booking, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(desk.Accept(t.Context(), rider.Command(), id))
	must(desk.Arrive(t.Context(), rider.Command(), id))
	for range booking.MaxWrongCodes {
		must(desk.RefuseStart(t.Context(), rider.Command(), id))
	}
	wait.Until(t, "the booking is open again", func() bool { return ledgertest.State(t, l, id) == booking.StateOpen })
	h, err := l.Load(t.Context(), id, booking.Fresh)
	if err != nil || h.Booking.Reason != booking.ReasonWrongCodes ||
		h.Events[len(h.Events)-1].Actor.Role != booking.Service {
		t.Errorf("it was released because of %q: %v", h.Booking.Reason, err)
	}
}

// A rider who has accepted and neither arrives nor moves loses the booking. One who moves keeps it
// until that ends, and one who has arrived keeps it.
func TestRecall(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		user := k.Person(booking.User)
		idle, moving, there := k.Person(booking.Rider), k.Person(booking.Rider), k.Person(booking.Rider)
		l := k.Ledger(t)
		desk := ledgertest.NewDesk(t, l)
		const patience = 2 * time.Second
		var stopped atomic.Pointer[time.Time]
		newTiming(k, t, func(c *booking.ProcessManagerConfig) {
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
		for name, rider := range map[string]ledgertest.Person{"idle": idle, "moving": moving, "there": there} {
			ids[name] = ledgertest.Booked(t, l, user, time.Hour,
				booking.Trip{Pickup: &booking.Place{Lat: 1}, Dropoff: &booking.Place{Lat: 2}})
			if _, err := desk.Accept(t.Context(), rider.Command(), ids[name]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := desk.Arrive(t.Context(), there.Command(), ids["there"]); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the idle rider has lost the booking",
			func() bool { return ledgertest.State(t, l, ids["idle"]) == booking.StateOpen })
		h, err := l.Load(t.Context(), ids["idle"], booking.Fresh)
		if err != nil || h.Booking.Reason != booking.ReasonNotComing || h.Events[2].At.Sub(h.Events[1].At) < patience {
			t.Errorf("it was released because of %q, %v after it was accepted: %v", h.Booking.Reason,
				h.Events[2].At.Sub(h.Events[1].At), err)
		}
		if got := ledgertest.State(t, l, ids["moving"]); got != booking.StateAccepted {
			t.Errorf("the booking of the rider who moves is %s", got)
		}
		now := time.Now()
		stopped.Store(&now)
		wait.Until(t, "the rider who has stopped has lost the booking",
			func() bool { return ledgertest.State(t, l, ids["moving"]) == booking.StateOpen })
		if got := ledgertest.State(t, l, ids["there"]); got != booking.StateArrived {
			t.Errorf("the booking of the rider who has arrived is %s", got)
		}
	})
}
