package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// In a group everyone gets the answer that a write of its own would have got: the sequences of its
// own events, or why they were not stored. One stale decision makes nobody else's fail.
func TestGroupedAnswersAreOnesOwn(t *testing.T) {
	t.Parallel()
	t.Run("acceptances", func(t *testing.T) { answersAreOnesOwn(t, bustest.Run(t), ledger.GroupBatches) })
	bustest.Setup{SyncAlways: true}.Sizes(t, func(t *testing.T, e *bustest.Env) { answersAreOnesOwn(t, e, 2) })
}

func answersAreOnesOwn(t *testing.T, e *bustest.Env, groupFrom int) {
	t.Helper()
	const writers, rounds = 24, 6
	k := ledgertest.New(t, e)
	k.GroupFrom = groupFrom
	l := k.Ledger(t)
	taken := ledgertest.Booked(t, k.Ledger(t), k.Person(booking.User), time.Hour)
	var wg sync.WaitGroup
	for i := range writers {
		w := appender{ledger: l, users: []ledgertest.Person{k.Person(booking.User)},
			riders: []ledgertest.Person{k.Person(booking.Rider)}, at: make([]booking.Engagement, 1)}
		wg.Go(func() {
			for range rounds {
				if err := w.ride(t.Context()); err != nil {
					t.Error(err)
				}
				if i%8 > 0 {
					continue
				}
				// A history that others have begun.
				if _, err := w.request(t.Context(), taken); !errors.Is(err, booking.ErrMoved) {
					t.Errorf("a stale decision is answered with %v", err)
				}
			}
		})
	}
	wg.Wait()
	last, err := l.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(1 + writers*rounds*4); last != want {
		t.Errorf("%d messages are stored, want %d", last, want)
	}
	if n := largestGroup(t, k.Connect(t), last); n < writers/2 {
		t.Errorf("the largest batch has %d messages: this tests no groups", n)
	}
}

// ride appends a ride, each event on the history that the last append returned.
func (a appender) ride(ctx context.Context) error {
	h, err := a.request(ctx, booking.ID(booking.NewID()))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if h, err = a.accept(ctx, 0, h); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	user := a.users[0]
	h, err = a.ledger.Append(ctx, user.Command(), h.Booking.ID, h,
		booking.Event{Kind: booking.Cancelled, Actor: user.Actor})
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	stored, err := a.ledger.Load(ctx, h.Booking.ID, booking.Fresh)
	if err != nil || stored.Revision != h.Revision {
		return fmt.Errorf("revision %d, and stored is %d: %w", h.Revision, stored.Revision, err)
	}
	for i, e := range stored.Events {
		if got := h.Events[i]; got.ID != e.ID || got.Seq != e.Seq {
			return fmt.Errorf("event %s was answered as %d, and is %d", got.ID, got.Seq, e.Seq)
		}
	}
	return nil
}

// While the server is away, a caller that gives up learns that nothing was recorded. The others are
// stored when it is back.
func TestGivingUpDuringAnOutage(t *testing.T) {
	t.Parallel()
	k, server := ledgertest.New(t, nil), bustest.Away(t)
	server.Config.SyncAlways = true
	server.Start(t)
	k.GroupFrom = 2
	l := k.LedgerOn(t, provisioned(t, server))
	a := newAppender(l, k, 6, false)
	server.Stop(t)
	wait.Until(t, "the connection is lost", func() bool { return l.Conn().Ready(t.Context()) != nil })
	hasty, cancel := context.WithCancel(t.Context())
	errs := make([]error, len(a.users))
	var wg, gone sync.WaitGroup
	for i := range a.users {
		ctx, group := t.Context(), &wg
		if i%2 == 0 {
			ctx, group = hasty, &gone
		}
		group.Go(func() { _, errs[i] = a.requestAs(ctx, i, booking.ID(booking.NewID())) })
	}
	cancel()
	gone.Wait()
	server.Start(t)
	wg.Wait()
	for i, err := range errs {
		if i%2 == 0 && (err == nil || errors.Is(err, ledger.ErrOutcomeUnknown)) || i%2 == 1 && err != nil {
			t.Errorf("number %d: %v", i, err)
		}
	}
	if last, err := l.LastSequence(t.Context()); err != nil || last != uint64(len(a.users)/2) {
		t.Errorf("%d events are stored, want %d: %v", last, len(a.users)/2, err)
	}
}
