package ledger_test

import (
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// followed starts a follower of a ledger, and waits until what happens from now on is in memory.
func followed(t *testing.T, l *ledger.Ledger) (b *board.Board, stop func()) {
	t.Helper()
	b, f, stop := ledgertest.FollowUntil(t, l)
	wait.Until(t, "the follower has begun", func() bool { return f.Ready(t.Context()) == nil })
	return b, stop
}

// What a process has followed is decided upon without a read.
func TestFollowedHistoriesAreNotRead(t *testing.T) {
	t.Parallel()
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		l, others := k.LedgerOn(t, conn), ledgertest.NewDesk(t, k.Ledger(t))
		board, _ := followed(t, l)
		user, rider := k.Person(booking.User), k.Person(booking.Rider)
		id := booking.ID(booking.NewID())
		if _, err := others.Book(t.Context(), user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		if _, err := others.Accept(t.Context(), rider.Command(), id); err != nil {
			t.Fatal(err)
		}
		ledgertest.Await(t, l, board)
		const looks = 20
		out, _ := traffic(conn, func() {
			for range looks {
				h, err := l.Load(t.Context(), id, booking.Quick)
				if err != nil || len(h.Events) != 2 || h.Booking.State != booking.StateAccepted {
					t.Errorf("the history is %+v (%v)", h, err)
				}
				at, err := l.Engagement(t.Context(), booking.RiderID(rider.ID), booking.Quick)
				if err != nil || at.Booking != id || at.Revision != h.Revision-1 {
					t.Errorf("the engagement is %+v (%v)", at, err)
				}
			}
		})
		if out >= looks { // the follower may say something meanwhile
			t.Errorf("%d looks took %d requests", 2*looks, out)
		}
		seen, err := l.Load(t.Context(), id, booking.Fresh)
		if err != nil || len(seen.Events) != 2 {
			t.Errorf("a fresh read has %+v (%v)", seen, err)
		}
	})
}

// A process whose follower has stopped decides on old news, and is put right by the guards.
func TestOldNewsDecideNothing(t *testing.T) {
	t.Parallel()
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		l, others := k.Ledger(t), ledgertest.NewDesk(t, k.Ledger(t))
		board, stop := followed(t, l)
		desk, user, rider := ledgertest.NewDesk(t, l), k.Person(booking.User), k.Person(booking.Rider)
		book := func() booking.ID {
			id := booking.ID(booking.NewID())
			if _, err := others.Book(t.Context(), user.Command(), id, booking.Trip{}); err != nil {
				t.Fatal(err)
			}
			return id
		}
		first, second, third := book(), book(), book()
		if _, err := others.Accept(t.Context(), rider.Command(), first); err != nil {
			t.Fatal(err)
		}
		if _, err := others.Cancel(t.Context(), user.Command(), first, ""); err != nil {
			t.Fatal(err)
		}
		ledgertest.Await(t, l, board)
		stop() // and knows a rider who is free, and two open bookings

		if _, err := others.Accept(t.Context(), rider.Command(), second); err != nil {
			t.Fatal(err)
		}
		_, err := desk.Accept(t.Context(), rider.Command(), third)
		bookingtest.Wants(t, err, booking.ErrRiderBusy)
		_, err = desk.Accept(t.Context(), k.Person(booking.Rider).Command(), second)
		bookingtest.Wants(t, err, booking.ErrAlreadyAccepted)
		if b, err := desk.Cancel(t.Context(), user.Command(), second, ""); err != nil ||
			b.Version != 3 || string(b.Rider) != rider.ID {
			t.Errorf("cancelled: %+v (%v)", b, err)
		}
		if b, err := desk.Accept(t.Context(), rider.Command(), third); err != nil || b.Version != 2 {
			t.Errorf("accepted: %+v (%v)", b, err)
		}
	})
}
