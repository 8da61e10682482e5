package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// An event is judged by when it was stored: good until 15 s after the revocation, refused later, by the board that was there and by
// every one that is read anew.
func TestReplayAcrossARevocation(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := newKit(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		live := k.watch(t, k.Connect(t)).loaded(t)
		ledger := live.ledger(t)
		shown, follower := follow(t, ledger)
		conn := k.Connect(t)
		user, sid := k.login(t, booking.User)
		other, _ := k.login(t, booking.User)
		first, second, others := booking.ID(booking.NewID()), booking.ID(booking.NewID()), booking.ID(booking.NewID())
		desk := newDesk(t, ledger)
		if _, err := desk.Book(ctx, user.command(), first, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		await(t, ledger, shown)
		stored, ok := shown.Get(first)
		if !ok {
			t.Fatal("the first booking is not on the board")
		}

		// As of exactly so long ago that the event just stored is the last good one.
		revoke(t, conn, token.Revocation{Session: sid, At: stored.RequestedAt.Add(-token.EventLeeway).Add(time.Microsecond)})
		wait.Until(t, "the service knows", func() bool {
			_, revoked := live.Revoked(user.ID, sid, time.Now())
			return revoked
		})
		store(t, conn, message(second, 1, booking.Requested, user.Actor, user.proof))
		store(t, conn, message(first, 2, booking.Cancelled, user.Actor, user.proof))
		if _, err := desk.Book(ctx, other.command(), others, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		await(t, ledger, shown)
		wait.Until(t, "the live board is ready", func() bool { return follower.Ready(ctx) == nil })

		check := func(what string, b *board.Board, l *bus.Ledger) {
			t.Helper()
			if b.Len() != 2 {
				t.Errorf("%s: %d bookings, want 2", what, b.Len())
			}
			for id, want := range map[booking.ID]booking.State{first: booking.StateOpen, others: booking.StateOpen, second: ""} {
				if got, _ := b.Get(id); got.State != want {
					t.Errorf("%s: a booking is %q, want %q", what, got.State, want)
				}
				if h, err := l.Load(ctx, id, booking.Fresh); err != nil || h.Booking.State != want {
					t.Errorf("%s: its history says %q (%v), want %q", what, h.Booking.State, err, want)
				}
			}
		}
		check("the live board", shown, ledger)
		anew := k.watch(t, k.Connect(t))
		ledger2 := anew.ledger(t)
		board2, _ := follow(t, ledger2)
		await(t, ledger2, board2)
		check("a board read anew", board2, ledger2)
		quarantined := func() string {
			m, err := conn.JetStream().Stream(ctx, bus.QuarantineStream)
			if err != nil {
				t.Fatal(err)
			}
			r, err := m.GetMsg(ctx, 1)
			if err != nil {
				return ""
			}
			return r.Header.Get("Pillion-Reason")
		}
		wait.Until(t, "the refused event is recorded", func() bool { return quarantined() == "token_revoked" })
	})
}

// A board is not fed, and no request is let in, before the revocations are there.
func TestNothingIsJudgedBeforeTheRevocationsAreThere(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user, sid := k.login(t, booking.User)
	id := booking.ID(booking.NewID())
	revoke(t, k.Connect(t), token.Revocation{Session: sid, At: time.Now().Add(-time.Hour)})
	store(t, k.Connect(t), message(id, 1, booking.Requested, user.Actor, user.proof))

	asked := make(chan struct{}, 1)
	conn := k.Connect(t)
	w := conn.Revocations() // that nobody runs yet
	verifier, err := token.NewVerifier(token.Config{Keys: k.auth.Keys(), Revocations: telling{w, asked}})
	if err != nil {
		t.Fatal(err)
	}
	blind, err := bus.OpenLedger(conn, bus.LedgerOptions{Source: "/test", Tokens: verifier})
	if err != nil {
		t.Fatal(err)
	}
	shown, follower := follow(t, blind)
	for range 3 { // it has met the event and asks again and again
		select {
		case <-asked:
		case <-ctx.Done():
			t.Fatal("nobody asked for revocations")
		}
	}
	if shown.Seq() != 0 || follower.Ready(ctx) == nil {
		t.Errorf("the board moved to %d without revocations", shown.Seq())
	}
	if err := w.Ready(ctx); !errors.Is(err, token.ErrNoRevocations) {
		t.Errorf("the watch is ready: %v", err)
	}
	if _, err := verifier.Verify(ctx, user.proof); !errors.Is(err, token.ErrNoRevocations) {
		t.Errorf("a request: %v", err)
	}
	if _, err := blind.Load(ctx, id, booking.Fresh); !errors.Is(err, token.ErrUndecided) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a history: %v", err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(running) }()
	await(t, blind, shown)
	if shown.Len() != 0 {
		t.Errorf("the board has %d bookings, want none", shown.Len())
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A telling tells when it is asked.
type telling struct {
	token.Revocations
	asked chan<- struct{}
}

func (r telling) CompleteAsOf() time.Time {
	select {
	case r.asked <- struct{}{}:
	default:
	}
	return r.Revocations.CompleteAsOf()
}
