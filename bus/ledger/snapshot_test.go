package ledger_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/snapshot"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// Instances that start from a snapshot have the same board as those that have read everything,
// whatever happens and whichever is killed.
func TestTwoInstancesServeOneTruth(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		firstKeys(k, t, conn)
		first := newInstance(k, t)
		if from := first.startedFrom(t); from != "none" {
			t.Errorf("the first one started from %s", from)
		}

		var load sync.WaitGroup
		busy, rest := context.WithCancel(ctx)
		defer rest()
		desk := ledgertest.NewDesk(t, first.ledger)
		for range 4 {
			load.Go(func() {
				user, _ := k.Login(t, booking.User)
				rider, _ := k.Login(t, booking.Rider)
				for n := 0; busy.Err() == nil; n++ {
					id := booking.ID(booking.NewID())
					if n%5 == 0 { // somebody tries to be first
						_, _ = conn.JetStream().PublishMsg(ctx,
							ledgertest.Message(id, 1, booking.Requested, user.Actor, "forged"))
						_, _ = conn.JetStream().PublishMsg(ctx,
							ledgertest.Message(id, 2+n%2, booking.Accepted, rider.Actor, "forged"))
					}
					if _, err := desk.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
						t.Error(err)
						return
					}
					if _, err := desk.Accept(ctx, rider.Command(), id); err != nil {
						t.Error(err)
						return
					}
					end := desk.Release // and so the rider is free for the next one
					by := rider.Command()
					if n%2 == 0 {
						end, by = desk.Cancel, user.Command()
					}
					if _, err := end(ctx, by, id, "rain"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var second *instance
		for round := range 4 {
			at, _ := first.metric(t, "pillion_board_snapshot_sequence")
			first.snapshotUpTo(t, max(uint64(at), first.board.Seq())+1)
			if second != nil {
				second.kill()
			}
			second = newInstance(k, t)
			if from := second.startedFrom(t); from != "snapshot" {
				t.Errorf("round %d: the second one started from %s", round, from)
			}
			wait.Until(t, "it is ready", func() bool { return second.follower.Ready(ctx) == nil })
		}
		rest()
		load.Wait()
		ledgertest.Await(t, first.ledger, first.board)
		ledgertest.Await(t, first.ledger, second.board)
		if !bytes.Equal(content(t, first.board), content(t, second.board)) {
			t.Error("the two of them show different boards")
		}
		equalsAFreshOne(k, t, second)
		if first.board.Len() == 0 {
			t.Error("nothing was booked")
		}
	})
}

// A snapshot is used only where reading everything would make the same board. Otherwise it is
// ignored, and replaced.
func TestSnapshotsThatAreNotUsed(t *testing.T) {
	t.Parallel() // most of it is waiting
	type env struct {
		*ledgertest.Kit
		conn       *bus.Conn
		key, other token.Key
		sid        string // whose session has booked everything
		last       uint64 // in the ledger
	}
	longAgo := func() time.Time { return time.Now().Add(-time.Hour) }
	for name, c := range map[string]struct {
		before func(*testing.T, *env) // the snapshot is made
		after  func(*testing.T, *env) // it is made, while no process of ours runs
		from   string
		empty  bool // the board, afterwards
	}{
		"nothing has happened": {from: "snapshot"},
		"somebody has logged out": {from: "snapshot", after: func(t *testing.T, e *env) {
			_, sid := e.Login(t, booking.User)
			ledgertest.Revoke(t, e.conn, token.Revocation{Session: sid, At: time.Now()})
		}},
		"a session was revoked as of an hour ago": {from: "past", empty: true, after: func(t *testing.T, e *env) {
			ledgertest.Revoke(t, e.conn, token.Revocation{Session: e.sid, At: longAgo()})
		}},
		"a revocation was deleted": {from: "past", before: func(t *testing.T, e *env) {
			_, sid := e.Login(t, booking.User)
			ledgertest.Revoke(t, e.conn, token.Revocation{Session: sid, At: time.Now()})
		}, after: func(t *testing.T, e *env) {
			kv, err := e.conn.JetStream().KeyValue(t.Context(), bus.RevocationsBucket)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := kv.Keys(t.Context())
			if err != nil || len(keys) != 1 {
				t.Fatal(keys, err)
			}
			if err := kv.Delete(t.Context(), keys[0]); err != nil {
				t.Fatal(err)
			}
		}},
		"the key was stolen an hour ago": {from: "past", empty: true, after: func(t *testing.T, e *env) {
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet,
				error) {
				return set.WithNext(e.other, now)
			})
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
				return set.Retire(now, now.Add(-time.Hour), e.key.ID)
			})
		}},
		"a key has come": {from: "snapshot", after: func(t *testing.T, e *env) {
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet,
				error) {
				return set.WithNext(e.other, now)
			})
		}},
		"a key has come that something was refused for want of": {from: "past", before: func(t *testing.T, e *env) {
			issuer, err := token.NewIssuer(token.IssuerConfig{Key: e.Auth.Other, Life: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			id := booking.NewID()
			_, c, err := issuer.Issue(token.Grant{Subject: id, Role: token.User, Email: "early@example.com"})
			if err != nil {
				t.Fatal(err)
			}
			e.last = ledgertest.Store(t, e.conn, ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Requested,
				booking.Actor{ID: id, Role: booking.User}, string(c.Event)))
		}, after: func(t *testing.T, e *env) {
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet,
				error) {
				return set.WithNext(e.other, now)
			})
		}},
		"its record was tampered with": {from: "unreadable", after: func(t *testing.T, e *env) {
			rewrite(e.Kit, t, "snapshot", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"seq":`),
					[]byte(`"seq":1`), 1)
			})
		}},
		"its record was truncated": {from: "unreadable", after: func(t *testing.T, e *env) {
			rewrite(e.Kit, t, "snapshot", func(b []byte) []byte { return b[:len(b)-7] })
		}},
		"its record is empty": {from: "unreadable", after: func(t *testing.T, e *env) {
			rewrite(e.Kit, t, "snapshot", func([]byte) []byte { return nil })
		}},
		"an older program has made it": {from: "version", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { x["board"] = 0 })
		}},
		"by older rules of verification": {from: "version", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { x["v"] = 0; x["what"] = "else" })
		}},
		"the old rule still held when it was made": {from: "past", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { delete(x, "old_rule_until") })
		}},
		"its ledger was replaced": {from: "foreign", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { x["ledger"] = longAgo() })
		}},
		"its ledger was restored, and has gone another way since": {from: "foreign", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { x["message"] = []byte("another message") })
		}},
		"its ledger has lost events": {from: "foreign", after: func(t *testing.T, e *env) {
			reseal(e.Kit, t, func(x map[string]any) { x["seq"] = 1000 })
		}},
		"a chunk was tampered with": {from: "torn", after: func(t *testing.T, e *env) {
			eachChunk(e.Kit, t, func(key string) {
				rewrite(e.Kit, t, key,
					func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
			})
		}},
		"a chunk is missing": {from: "torn", after: func(t *testing.T, e *env) {
			eachChunk(e.Kit, t, func(key string) { purge(e.Kit, t, key) })
		}},
		"all of it was deleted": {from: "none", after: func(t *testing.T, e *env) { purge(e.Kit, t, ">") }},
		"the bucket was deleted": {from: "none", after: func(t *testing.T, e *env) {
			if err := e.conn.JetStream().DeleteKeyValue(t.Context(), bus.BoardsBucket); err != nil {
				t.Fatal(err)
			}
			if err := bus.Provision(t.Context(), e.conn, e.Plan()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			e := &env{Kit: ledgertest.New(t, bustest.Run(t))}
			e.conn = e.Connect(t)
			e.key, e.other = firstKeys(e.Kit, t, e.conn)
			maker := newInstance(e.Kit, t)
			user, sid := e.Login(t, booking.User)
			e.sid = sid
			for range 3 {
				id := booking.ID(booking.NewID())
				if _, err := ledgertest.NewDesk(t, maker.ledger).Book(ctx, user.Command(), id,
					booking.Trip{}); err != nil {
					t.Fatal(err)
				}
				ledgertest.Store(t, e.conn, ledgertest.Message(id, 2, booking.Accepted,
					booking.Actor{ID: booking.NewID(), Role: booking.Rider}, "forged"))
			}
			if c.before != nil {
				c.before(t, e)
			}
			last, err := maker.ledger.LastSequence(ctx)
			if err != nil {
				t.Fatal(err)
			}
			maker.snapshotUpTo(t, last)
			maker.stop()
			if c.after != nil {
				c.after(t, e)
			}

			next := newInstance(e.Kit, t, never)
			if from := next.startedFrom(t); from != c.from {
				t.Errorf("started from %q, want %q", from, c.from)
			}
			equalsAFreshOne(e.Kit, t, next)
			if empty := next.board.Len() == 0; empty != c.empty {
				t.Errorf("%d bookings are on the board", next.board.Len())
			}
			next.stop()

			keeper := newInstance(e.Kit, t)
			if _, err := ledgertest.NewDesk(t, keeper.ledger).Book(ctx, e.Person(booking.User).Command(),
				booking.ID(booking.NewID()), booking.Trip{}); err != nil && !c.empty {
				t.Fatal(err)
			}
			keeper.snapshotUpTo(t, last)
			wait.Until(t, "it has made one itself", func() bool {
				n, _ := keeper.metric(t, "pillion_board_snapshots_total")
				return n > 0 || c.from == "snapshot"
			})
			keeper.stop()
			again := newInstance(e.Kit, t, never)
			if from := again.startedFrom(t); from != "snapshot" {
				t.Errorf("when it was replaced, one started from %q", from)
			}
			equalsAFreshOne(e.Kit, t, again)
		})
	}
}

// With another key, or none, no snapshot of others is believed.
func TestSnapshotsOfAnotherKey(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	conn := k.Connect(t)
	firstKeys(k, t, conn)
	maker := newInstance(k, t)
	user := k.Person(booking.User)
	if _, err := ledgertest.NewDesk(t, maker.ledger).Book(t.Context(), user.Command(), booking.ID(booking.NewID()),
		booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	maker.snapshotUpTo(t, 1)
	other := newInstance(k, t, func(o *snapshot.Options) { o.Key = bytes.Repeat([]byte("o"), 32); never(o) })
	if from := other.startedFrom(t); from != "unreadable" {
		t.Errorf("started from %q", from)
	}
	for _, o := range []snapshot.Options{{}, {Key: snapshotKey[:31],
		Keys:        trust.NewKeyWatch(conn, bustest.Anchor(), time.Second, new(trust.Epoch)),
		Revocations: trust.NewRevocationWatch(conn, bustest.Anchor(), new(trust.Epoch))}, {Key: snapshotKey}} {
		if err := maker.ledger.Follow(board.New()).UseSnapshots(o); err == nil {
			t.Error("settings that cannot work were taken")
		}
	}
}
