package ledger_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// An operator says today that a key, or a session, was not valid since an earlier time. Earlier
// verdicts are reached again: the live board becomes that of a reader that starts now, and nobody
// sees it half read.
func TestTheLiveBoardFollowsAChangedPast(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		old, other := tokentest.KeyOf(&k.Auth.Private.PublicKey), tokentest.KeyOf(&k.Auth.Other.PublicKey)
		changeKeys(t, conn, func(_ *token.KeySet, now time.Time) (*token.KeySet,
			error) {
			return token.FirstSet(old, now)
		})
		changeKeys(t, conn, func(set *token.KeySet, now time.Time) (*token.KeySet,
			error) {
			return set.WithNext(other, now)
		})

		live := watchingLedger(k, t)
		shown, follower := ledgertest.Follow(t, live)
		thief, _ := k.Login(t, booking.User)
		good, sid := k.Login(t, booking.User)
		issuer, err := token.NewIssuer(token.IssuerConfig{Key: k.Auth.Other, Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		_, c, err := issuer.Issue(token.Grant{Subject: good.ID, Role: token.User, Email: "good@example.com", Session: sid})
		if err != nil {
			t.Fatal(err)
		}
		good.Proof = string(c.Event)
		desk := ledgertest.NewDesk(t, live)
		book := func(p ledgertest.Person) booking.ID {
			t.Helper()
			b, err := desk.Book(ctx, p.Command(), booking.ID(booking.NewID()), booking.Trip{})
			if err != nil {
				t.Fatal(err)
			}
			return b.ID
		}
		gone := []booking.ID{book(thief), book(thief)}
		stays := []booking.ID{book(good), book(good)}
		ledgertest.Await(t, live, shown)

		// Somebody looks all the time, and somebody books.
		var busy sync.WaitGroup
		looking, stop := context.WithCancel(ctx)
		defer stop()
		busy.Go(func() {
			for looking.Err() == nil {
				if _, ok := shown.Get(stays[0]); !ok {
					t.Error("a booking was off the board for a while")
					return
				}
			}
		})
		var more []booking.ID
		busy.Go(func() {
			for looking.Err() == nil {
				b, err := desk.Book(ctx, good.Command(), booking.ID(booking.NewID()), booking.Trip{})
				if err != nil {
					t.Error(err)
					return
				}
				more = append(more, b.ID)
			}
		})
		changeKeys(t, conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			return set.Retire(now, now.Add(-time.Hour), old.ID)
		})
		wait.Until(t, "what the bad key signed is off the live board", func() bool {
			_, first := shown.Get(gone[0])
			_, second := shown.Get(gone[1])
			return !first && !second
		})
		stop()
		busy.Wait()
		check := func(want ...booking.ID) {
			t.Helper()
			ledgertest.Await(t, live, shown)
			fresh, _ := ledgertest.Follow(t, watchingLedger(k, t))
			ledgertest.Await(t, live, fresh)
			for what, b := range map[string]*board.Board{"live": shown, "fresh": fresh} {
				if b.Len() != len(want) {
					t.Errorf("the %s board has %d bookings, want %d", what, b.Len(), len(want))
				}
				for _, id := range want {
					if _, ok := b.Get(id); !ok {
						t.Errorf("the %s board lacks a booking", what)
					}
				}
			}
			if err := follower.Ready(ctx); err != nil {
				t.Error(err)
			}
		}
		check(append(stays, more...)...)

		ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now().Add(-time.Hour)})
		wait.Until(t, "what the revoked session booked is off the live board", func() bool { return shown.Len() == 0 })
		check()
	})
}

func changeKeys(t testing.TB, c *bus.Conn, change func(*token.KeySet, time.Time) (*token.KeySet, error)) {
	t.Helper()
	if _, _, err := bustest.Authority(c).ChangeKeys(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// watchingLedger opens a ledger that verifies with the keys and revocations in the buckets, like a
// service.
func watchingLedger(k *ledgertest.Kit, t testing.TB) *ledger.Ledger {
	t.Helper()
	conn := k.Connect(t)
	watch := k.Watch(t, conn).Loaded(t)
	keys := ledgertest.WatchKeys(t, conn, time.Second, watch.Epoch)
	v, err := token.NewVerifier(token.Config{Keys: keys, Revocations: watch.RevocationWatch})
	if err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the keys arrive", func() bool { return keys.Ready(t.Context()) == nil })
	l, err := ledger.Open(conn, ledger.Options{Source: "/test", Tokens: v, Epoch: watch.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
