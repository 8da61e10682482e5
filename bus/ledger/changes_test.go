package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// take returns what a subscription yields until it has taken all changes up to a sequence.
func take(t testing.TB, s *ledger.Subscription, to uint64) (all []*ledger.Change) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	for {
		found, err := s.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, found...); s.Seq() >= to {
			return all
		}
		select {
		case <-s.More():
		case <-ctx.Done():
			t.Fatalf("the subscription stays at %d of %d", s.Seq(), to)
		}
	}
}

// Every subscription yields every change once and in order, with the booking before and after it:
// one that keeps up, one that takes nothing for a long time and holds nobody up, and one that
// begins at what was stored before the follower started. None yields a forgery.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		l := k.LedgerOn(t, conn)
		desk := ledgertest.NewDesk(t, l)
		user, rider, other := k.Person(booking.User), k.Person(booking.Rider), k.Person(booking.Rider)
		ctx, cancel := context.WithTimeout(t.Context(), 2*wait.Patience)
		defer cancel()
		must := func(b booking.Booking, err error) booking.ID {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return b.ID
		}
		// A ride, and forgeries in between. Part of it is stored before the follower starts.
		id := must(desk.Book(ctx, user.Command(), booking.ID(booking.NewID()), booking.Trip{}))
		ledgertest.Store(t, conn, ledgertest.Message(id, 2, booking.Accepted, rider.Actor, "forged"))
		ledgertest.Store(t, conn, ledgertest.Message(id, 2, booking.Completed, rider.Actor, rider.Proof))
		must(desk.Accept(ctx, rider.Command(), id))
		_, follower := ledgertest.Follow(t, l)
		wait.Until(t, "the follower is ready", func() bool { return follower.Ready(ctx) == nil })
		started, err := l.LastSequence(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fast, slow, old := follower.Subscribe(started), follower.Subscribe(started), follower.Subscribe(0)
		must(desk.Release(ctx, rider.Command(), id, "puncture"))
		must(desk.Accept(ctx, other.Command(), id))
		fill(t, k, conn, 5000) // more than what stays in memory
		must(desk.Cancel(ctx, user.Command(), id, ""))
		last, err := l.LastSequence(ctx)
		if err != nil {
			t.Fatal(err)
		}
		quick := take(t, fast, last)
		var whole, late []*ledger.Change
		began := time.Now()
		out, _ := traffic(conn, func() { whole, late = take(t, old, last), take(t, slow, last) })
		t.Logf("%d messages twice in %v, by %d requests", last, time.Since(began), out)
		if out > 10*few { // of 2,500 bookings
			t.Errorf("catching up took %d requests", out)
		}
		if len(quick) != len(late) || len(whole) != len(quick)+2 {
			t.Fatalf("%d changes at once, %d late, %d from the beginning", len(quick), len(late), len(whole))
		}
		fold := map[booking.ID]booking.Booking{}
		var seq uint64
		for i, c := range whole {
			if c.Event.Seq <= seq {
				t.Fatalf("%d comes after %d", c.Event.Seq, seq)
			}
			seq = c.Event.Seq
			if i >= 2 && (quick[i-2].Event.ID != c.Event.ID || late[i-2].Event.ID != c.Event.ID) {
				t.Fatalf("message %d: %s, %s and %s", seq, c.Event.ID, quick[i-2].Event.ID, late[i-2].Event.ID)
			}
			for _, same := range []*ledger.Change{c, quick[max(i-2, 0)], late[max(i-2, 0)]} {
				if same.Event.Seq != seq {
					continue // the first two
				}
				before := fold[c.Event.Booking]
				after, err := before.Apply(c.Event)
				if err != nil || !alike(same.Before, before) || !alike(same.After, after) {
					t.Fatalf("message %d changes %v to %v, want %v to %v: %v", seq, same.Before, same.After, before,
						after, err)
				}
			}
			fold[c.Event.Booking] = c.After
		}
		if b := fold[id]; b.State != booking.StateCancelled {
			t.Errorf("the ride is %s in the end", b.State)
		}
	})
}

// alike reports whether two bookings have been folded from as many events, with the same outcome.
func alike(a, b booking.Booking) bool {
	return a.ID == b.ID && a.Version == b.Version && a.State == b.State && a.Rider == b.Rider
}

// What was verified before the past changed is verified again for those who have not taken it.
func TestSubscriptionsAfterAChangedPast(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	w := k.Watch(t, k.Connect(t)).Loaded(t)
	l := w.Ledger(t)
	_, follower := ledgertest.Follow(t, l)
	wait.Until(t, "the follower is ready", func() bool { return follower.Ready(t.Context()) == nil })
	good, _ := k.Login(t, booking.User)
	thief, sid := k.Login(t, booking.User)
	changes := follower.Subscribe(0)
	first := ledgertest.Booked(t, l, good, time.Hour)
	ledgertest.Booked(t, l, thief, time.Hour)
	ledgertest.Await(t, l, follower.Board())
	ledgertest.Revoke(t, w.Conn, token.Revocation{Session: sid, At: time.Now().Add(-time.Hour)})
	wait.Until(t, "the board is rebuilt", func() bool { return follower.Board().Len() == 1 })
	if all := take(t, changes, 2); len(all) != 1 || all[0].Event.Booking != first {
		t.Errorf("%d changes, want the first booking's", len(all))
	}
}
