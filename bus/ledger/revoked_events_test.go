package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// An event is judged by when it was stored: valid until 15 s after the revocation, rejected later,
// by the live board and by every new one.
func TestReplayAcrossARevocation(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		live := k.Watch(t, k.Connect(t)).Loaded(t)
		l := live.Ledger(t)
		shown, follower := ledgertest.Follow(t, l)
		conn := k.Connect(t)
		user, sid := k.Login(t, booking.User)
		other, _ := k.Login(t, booking.User)
		first, second, others := booking.ID(booking.NewID()), booking.ID(booking.NewID()), booking.ID(booking.NewID())
		desk := ledgertest.NewDesk(t, l)
		if _, err := desk.Book(ctx, user.Command(), first, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		ledgertest.Await(t, l, shown)
		stored, ok := shown.Get(first)
		if !ok {
			t.Fatal("the first booking is not on the board")
		}

		// As of exactly so long ago that the event just stored is the last good one.
		ledgertest.Revoke(t, conn, token.Revocation{Session: sid,
			At: stored.RequestedAt.Add(-token.EventLeeway).Add(time.Microsecond)})
		wait.Until(t, "the service knows", func() bool {
			_, revoked := live.Revoked(user.ID, sid, time.Now())
			return revoked
		})
		ledgertest.Store(t, conn, ledgertest.Message(second, 1, booking.Requested, user.Actor, user.Proof))
		ledgertest.Store(t, conn, ledgertest.Message(first, 2, booking.Cancelled, user.Actor, user.Proof))
		if _, err := desk.Book(ctx, other.Command(), others, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		ledgertest.Await(t, l, shown)
		wait.Until(t, "the live board is ready", func() bool { return follower.Ready(ctx) == nil })

		check := func(what string, b *board.Board, l *ledger.Ledger) {
			t.Helper()
			if b.Len() != 2 {
				t.Errorf("%s: %d bookings, want 2", what, b.Len())
			}
			for id, want := range map[booking.ID]booking.State{first: booking.StateOpen, others: booking.StateOpen,
				second: ""} {
				if got, _ := b.Get(id); got.State != want {
					t.Errorf("%s: a booking is %q, want %q", what, got.State, want)
				}
				if h, err := l.Load(ctx, id, booking.Fresh); err != nil || h.Booking.State != want {
					t.Errorf("%s: its history says %q (%v), want %q", what, h.Booking.State, err, want)
				}
			}
		}
		check("the live board", shown, l)
		anew := k.Watch(t, k.Connect(t))
		ledger2 := anew.Ledger(t)
		board2, _ := ledgertest.Follow(t, ledger2)
		ledgertest.Await(t, ledger2, board2)
		check("a board read again", board2, ledger2)
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

// No board is fed, and no request accepted, before the revocations are complete.
func TestNothingIsJudgedBeforeTheRevocationsAreThere(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user, sid := k.Login(t, booking.User)
	id := booking.ID(booking.NewID())
	ledgertest.Revoke(t, k.Connect(t), token.Revocation{Session: sid, At: time.Now().Add(-time.Hour)})
	ledgertest.Store(t, k.Connect(t), ledgertest.Message(id, 1, booking.Requested, user.Actor, user.Proof))

	asked := make(chan struct{}, 1)
	conn := k.Connect(t)
	epoch := new(trust.Epoch)
	w := trust.NewRevocationWatch(conn, bustest.Anchor(), epoch) // that nobody runs yet
	verifier, err := token.NewVerifier(token.Config{Keys: k.Auth.Keys(), Revocations: telling{w, asked}})
	if err != nil {
		t.Fatal(err)
	}
	blind, err := ledger.Open(conn, ledger.Options{Source: "/test", Tokens: verifier, Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	shown, follower := ledgertest.Follow(t, blind)
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
	if _, err := verifier.Verify(ctx, user.Token); !errors.Is(err, token.ErrNoRevocations) {
		t.Errorf("a request: %v", err)
	}
	if _, err := blind.Load(ctx, id, booking.Fresh); !errors.Is(err, token.ErrUndecided) ||
		fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a history: %v", err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(running) }()
	ledgertest.Await(t, blind, shown)
	if shown.Len() != 0 {
		t.Errorf("the board has %d bookings, want none", shown.Len())
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// telling are revocations that report each question.
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
