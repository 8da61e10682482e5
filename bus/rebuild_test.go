package bus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// Somebody says today that a key, or a session, was not good since some time ago. What was judged by it already is judged anew: the live
// board becomes the one that a reader has who starts now, and nobody who looks at it meanwhile sees it half read.
func TestTheLiveBoardFollowsAChangedPast(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		k := newKit(t, e)
		conn := k.Connect(t)
		old, other := tokentest.KeyOf(&k.auth.Private.PublicKey), tokentest.KeyOf(&k.auth.Other.PublicKey)
		changeKeys(t, conn, func(_ *token.KeySet, now time.Time) (*token.KeySet, error) { return token.FirstSet(old, now) })
		changeKeys(t, conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(other, now) })

		live := k.watching(t)
		shown, follower := follow(t, live)
		thief, _ := k.login(t, booking.User)
		good, sid := k.login(t, booking.User)
		issuer, err := token.NewIssuer(token.IssuerConfig{Key: k.auth.Other, Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if good.proof, _, err = issuer.Issue(token.Grant{Subject: good.ID, Role: token.User, Email: "good@example.com", Session: sid}); err != nil {
			t.Fatal(err)
		}
		desk := newDesk(t, live)
		book := func(p person) booking.ID {
			t.Helper()
			b, err := desk.Book(ctx, p.command(), booking.ID(booking.NewID()), booking.Trip{})
			if err != nil {
				t.Fatal(err)
			}
			return b.ID
		}
		gone := []booking.ID{book(thief), book(thief)}
		stays := []booking.ID{book(good), book(good)}
		await(t, live, shown)

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
				b, err := desk.Book(ctx, good.command(), booking.ID(booking.NewID()), booking.Trip{})
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
			await(t, live, shown)
			fresh, _ := follow(t, k.watching(t))
			await(t, live, fresh)
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

		revoke(t, conn, token.Revocation{Session: sid, At: time.Now().Add(-time.Hour)})
		wait.Until(t, "what the revoked session booked is off the live board", func() bool { return shown.Len() == 0 })
		check()
	})
}

func changeKeys(t testing.TB, c *bus.Conn, change func(*token.KeySet, time.Time) (*token.KeySet, error)) {
	t.Helper()
	if _, _, err := c.ChangeKeys(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// watching opens a ledger that judges by the keys and revocations in the buckets, as a service does.
func (k *kit) watching(t testing.TB) *bus.Ledger {
	t.Helper()
	conn := k.Connect(t)
	keys := watchKeys(t, conn, time.Second)
	v, err := token.NewVerifier(token.Config{Keys: keys, Revocations: k.watch(t, conn).loaded(t).RevocationWatch})
	if err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the keys arrive", func() bool { return keys.Ready(t.Context()) == nil })
	l, err := bus.OpenLedger(conn, bus.LedgerOptions{Source: "/test", Tokens: v})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
