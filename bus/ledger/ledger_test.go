package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// The mission's promise: however many riders race, one wins, all get the same answer, and the
// losers learn why.
func TestRace(t *testing.T) {
	const riders = 32
	rounds := 10
	if wait.Long() {
		rounds = 25
	}
	if n, err := strconv.Atoi(os.Getenv("RACES")); err == nil {
		rounds = n
	}
	ledgertest.Races(t, func(t *testing.T, k *ledgertest.Kit) {
		var desks []*booking.Desk
		for range 3 { // three processes, each on another server of the cluster
			desks = append(desks, ledgertest.NewDesk(t, k.Ledger(t)))
		}
		watcher := k.Connect(t)
		var mu sync.Mutex
		seen := map[string]int{}
		sub, err := watcher.NATS().Subscribe("booking.>", func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			seen[m.Subject]++
			if m.Header.Get("Authorization") == "" {
				t.Errorf("%s carries no token", m.Subject)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := watcher.NATS().Flush(); err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection is closed next

		user := k.Person(booking.User)
		people := make([]ledgertest.Person, riders)
		for i := range people {
			people[i] = k.Person(booking.Rider)
		}
		var outcomes [3]int
		for round := range rounds {
			cancelling := round%2 == 1
			outcomes[race(t, desks, user, people, cancelling)]++
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
		t.Logf("%d rounds: accepted %d, cancelled while open %d, accepted and then cancelled %d", rounds, outcomes[0],
			outcomes[1], outcomes[2])

		want := rounds + 2*outcomes[0] + outcomes[1] + 2*outcomes[2]
		wait.Until(t, fmt.Sprintf("a watcher sees %d events", want), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) >= want
		})
		mu.Lock()
		defer mu.Unlock()
		for subject, n := range seen {
			if n != 1 {
				t.Errorf("a watcher saw %s %d times", subject, n)
			}
		}
		if len(seen) != want {
			t.Errorf("a watcher saw %d events, want %d", len(seen), want)
		}
	})
}

// race lets everyone race for one booking, and returns 0 for accepted, 1 for cancelled while open,
// 2 for both.
func race(
	t *testing.T, desks []*booking.Desk, user ledgertest.Person, riders []ledgertest.Person, cancelling bool,
) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	id := booking.ID(booking.NewID())
	if _, err := desks[0].Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
		t.Fatalf("book: %v", err)
	}
	errs := make([]error, len(riders))
	var cancelErr error
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, r := range riders {
		wg.Go(func() {
			<-start
			_, errs[i] = desks[i%len(desks)].Accept(ctx, r.Command(), id)
		})
	}
	if cancelling {
		wg.Go(func() {
			<-start
			_, cancelErr = desks[1].Cancel(ctx, user.Command(), id, "changed my mind")
		})
	}
	close(start)
	wg.Wait()

	winner := -1
	for i, err := range errs {
		if err == nil {
			if winner >= 0 {
				t.Errorf("riders %d and %d were both told that they won", winner, i)
			}
			winner = i
		}
	}
	for i, err := range errs {
		switch {
		case err == nil, errors.Is(err, booking.ErrAlreadyAccepted) && winner >= 0:
		case errors.Is(err, booking.ErrCancelled) && cancelling:
		default:
			t.Errorf("rider %d was told %v (winner %d)", i, err, winner)
		}
	}
	if cancelErr != nil {
		t.Errorf("the user could not cancel: %v", cancelErr)
	}
	// Told the same to everybody, afterwards, on every instance.
	for i, d := range desks {
		b, err := d.Show(ctx, id)
		if err != nil {
			t.Fatalf("show: %v", err)
		}
		switch {
		case cancelling && b.State != booking.StateCancelled, !cancelling && b.State != booking.StateAccepted:
			t.Errorf("desk %d says %s", i, b.State)
		case winner >= 0 && b.Version != map[bool]int{false: 2, true: 3}[cancelling]:
			t.Errorf("desk %d says version %d", i, b.Version)
		case winner >= 0 && !cancelling && string(b.Rider) != riders[winner].ID:
			t.Errorf("desk %d names another winner", i)
		case winner < 0 && b.Version != 2:
			t.Errorf("desk %d says version %d, and nobody won", i, b.Version)
		}
	}
	if winner >= 0 {
		if _, err := desks[2].Accept(ctx, riders[winner].Command(), id); !cancelling && err != nil {
			t.Errorf("the winner was told later that it lost: %v", err)
		}
	}
	switch {
	case winner < 0:
		return 1
	case cancelling:
		return 2
	}
	// the winner is free for the next one
	if _, err := desks[0].Cancel(ctx, user.Command(), id, "that was the race"); err != nil {
		t.Errorf("cancel afterwards: %v", err)
	}
	return 0
}

// Leaders come and go: nobody may learn that they won when they did not, or that they lost when
// they won.
func TestUnknownOutcomes(t *testing.T) {
	for name, from := range map[string]int{"one by one": 0, "grouped": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			k := ledgertest.New(t, bustest.RunCluster(t))
			k.GroupFrom = from
			unknownOutcomes(t, k)
		})
	}
}

func unknownOutcomes(t *testing.T, k *ledgertest.Kit) {
	t.Helper()
	stepDowns := k.StepDowns(t, bus.LedgerStream, 300*time.Millisecond)
	var desks []*booking.Desk
	for range 3 {
		desks = append(desks, ledgertest.NewDesk(t, k.Ledger(t)))
	}
	user := k.Person(booking.User)
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	end := time.Now().Add(5 * time.Second)
	unknown, rounds := 0, 0
	for ; time.Now().Before(end); rounds++ {
		id := booking.ID(booking.NewID())
		_, err := desks[rounds%3].Book(ctx, user.Command(), id, booking.Trip{})
		if errors.Is(err, ledger.ErrOutcomeUnknown) {
			unknown++
			continue
		}
		if err != nil {
			t.Fatalf("book: %v", err)
		}
		riders := []ledgertest.Person{k.Person(booking.Rider), k.Person(booking.Rider), k.Person(booking.Rider)}
		errs := make([]error, len(riders))
		var wg sync.WaitGroup
		for i, r := range riders {
			wg.Go(func() { _, errs[i] = desks[i].Accept(ctx, r.Command(), id) })
		}
		wg.Wait()
		b, err := desks[0].Show(ctx, id)
		if err != nil {
			t.Fatalf("show: %v", err)
		}
		for i, err := range errs {
			won := string(b.Rider) == riders[i].ID
			switch {
			case errors.Is(err, ledger.ErrOutcomeUnknown):
				unknown++
			case won != (err == nil):
				t.Errorf("rider %d: won %v, was told %v", i, won, err)
			case err != nil && !errors.Is(err, booking.ErrAlreadyAccepted):
				t.Errorf("rider %d was told %v", i, err)
			}
		}
		if b.State != booking.StateAccepted {
			t.Errorf("nobody won %s: %v", id, errs)
		}
	}
	downs := stepDowns()
	t.Logf("%d bookings, %d step-downs, %d unknown outcomes", rounds, downs, unknown)
	if downs == 0 {
		t.Error("no leader ever stepped down")
	}
}

// A board may show what the leader has not applied yet. A read of that waits, and does not say that
// there is no such booking.
func TestFreshReadsWaitForTheLeader(t *testing.T) {
	t.Parallel()
	k := ledgertest.New(t, bustest.Run(t))
	var shown atomic.Uint64
	ledger, err := ledger.Open(k.Connect(t), ledger.Options{
		Source: "/test", Tokens: k.Auth.Verifier(), Shown: func(booking.ID) uint64 { return shown.Load() },
	})
	if err != nil {
		t.Fatal(err)
	}
	other, user := k.Ledger(t), k.Person(booking.User)
	first, err := ledgertest.NewDesk(t, other).Book(t.Context(), user.Command(), booking.ID(booking.NewID()),
		booking.Trip{})
	if err != nil {
		t.Fatal(err)
	}
	last, err := ledger.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown.Store(last)
	if h, err := ledger.Load(t.Context(), first.ID, booking.Fresh); err != nil || h.Booking.State != booking.StateOpen {
		t.Errorf("what the leader has: %v, %v", h.Booking.State, err)
	}

	shown.Store(last + 1)
	second := booking.ID(booking.NewID())
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if h, err := ledger.Load(short, second, booking.Fresh); err == nil {
		t.Errorf("what a board has and the leader has not is said to be %v", h.Booking.State)
	}
	loaded := make(chan error, 1)
	go func() {
		h, err := ledger.Load(t.Context(), second, booking.Fresh)
		if err == nil && h.Booking.State != booking.StateOpen {
			err = fmt.Errorf("it is %v", h.Booking.State)
		}
		loaded <- err
	}()
	if _, err := ledgertest.NewDesk(t, other).Book(t.Context(), user.Command(), second, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	if err := <-loaded; err != nil {
		t.Errorf("when the leader has it too: %v", err)
	}
}

// A replica that lacks a booking says that there is none. A fresh read is not misled. The replica
// here is a mirror that begins later.
func TestFreshReadsAreNotMisled(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	conn := k.Connect(t)
	ledger := k.LedgerOn(t, conn)
	old := ledgertest.Booked(t, ledger, k.Person(booking.User), time.Hour)
	last, err := ledger.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late, err := conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "LATE", Mirror: &jetstream.StreamSource{Name: bus.LedgerStream, OptStartSeq: last + 1}, AllowDirect: true,
		MirrorDirect: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ledgertest.Booked(t, ledger, k.Person(booking.User), time.Hour)
	wait.Until(t, "the replica has something", func() bool {
		info, err := late.Info(t.Context())
		return err == nil && info.State.Msgs > 0
	})
	wait.Until(t, "the replica answers", func() bool {
		h, err := ledger.Load(t.Context(), old, booking.Quick)
		return err == nil && h.Booking.State == booking.StateNone
	})
	for range 20 { // every other time that replica is asked
		if got := ledgertest.State(t, ledger, old); got != booking.StateOpen {
			t.Fatalf("the booking is %q", got)
		}
	}
}
