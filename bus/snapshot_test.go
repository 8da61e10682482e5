package bus_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

var snapshotKey = bytes.Repeat([]byte("k"), 32)

// An instance is what a process of ours has: a connection, watches, a ledger and a board.
type instance struct {
	conn     *bus.Conn
	ledger   *bus.Ledger
	board    *board.Board
	follower *bus.Follower
	metrics  *prometheus.Registry
	stop     func()
}

// instance starts one that makes snapshots as often as it can, unless options say otherwise.
func (k *kit) instance(t testing.TB, options ...func(*bus.SnapshotOptions)) *instance {
	t.Helper()
	i := &instance{metrics: prometheus.NewRegistry(), board: board.New()}
	i.conn = k.ConnectWith(t, bus.Config{Registerer: i.metrics})
	o := bus.SnapshotOptions{
		Key: snapshotKey, Keys: i.conn.KeyWatch(time.Second), Revocations: i.conn.Revocations(), Every: 100 * time.Millisecond, Events: 1,
	}
	for _, set := range options {
		set(&o)
	}
	v, err := token.NewVerifier(token.Config{Keys: o.Keys, Revocations: o.Revocations})
	if err != nil {
		t.Fatal(err)
	}
	if i.ledger, err = bus.OpenLedger(i.conn, bus.LedgerOptions{Source: "/test", Tokens: v, ForgetEvery: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	i.follower = i.ledger.Follow(i.board)
	if err := i.follower.UseSnapshots(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, run := range []func(context.Context) error{o.Keys.Run, o.Revocations.Run, i.follower.Run} {
		work.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	i.stop = sync.OnceFunc(func() { cancel(); work.Wait() })
	t.Cleanup(i.stop)
	return i
}

// never makes no snapshots by itself.
func never(o *bus.SnapshotOptions) { o.Every = 1000 * time.Hour }

// kill ends an instance in the middle of whatever it does.
func (i *instance) kill() {
	i.conn.NATS().Close()
	i.stop()
}

// metric returns the value of a metric, summed up over labels, and the labels' values.
func (i *instance) metric(t testing.TB, name string) (sum float64, labels []string) {
	t.Helper()
	families, err := i.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
		}
	}
	return sum, labels
}

// startedFrom waits until it is known from what an instance has started, and returns that.
func (i *instance) startedFrom(t testing.TB) (from string) {
	t.Helper()
	wait.Until(t, "it has started", func() bool {
		_, labels := i.metric(t, "pillion_board_started_from")
		from = strings.Join(labels, "+")
		return from != ""
	})
	return from
}

// snapshotUpTo waits until the instance knows of a snapshot that goes to a sequence.
func (i *instance) snapshotUpTo(t testing.TB, seq uint64) {
	t.Helper()
	wait.Until(t, fmt.Sprintf("a snapshot up to %d", seq), func() bool {
		at, _ := i.metric(t, "pillion_board_snapshot_sequence")
		return uint64(at) >= seq
	})
}

// content is all that a board knows, in bytes.
func content(t testing.TB, b *board.Board) []byte {
	t.Helper()
	c := b.Capture()
	defer c.End()
	var all []byte
	for first := true; ; first = false {
		block, err := c.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if !first { // the header says how large maps have been
			all = append(all, block...)
		}
	}
}

// equalsAFreshOne fails the test unless the board is what a reader has who reads the whole ledger now.
func (k *kit) equalsAFreshOne(t *testing.T, i *instance) {
	t.Helper()
	fresh, _ := follow(t, k.watching(t))
	await(t, i.ledger, fresh)
	wait.Until(t, "the board is what a fresh reader has", func() bool {
		return i.board.Seq() == fresh.Seq() && bytes.Equal(content(t, i.board), content(t, fresh))
	})
}

// firstKeys publishes the authority's key, and returns it with the one that is not published.
func (k *kit) firstKeys(t *testing.T, conn *bus.Conn) (first, other token.Key) {
	t.Helper()
	first, other = tokentest.KeyOf(&k.auth.Private.PublicKey), tokentest.KeyOf(&k.auth.Other.PublicKey)
	changeKeys(t, conn, func(_ *token.KeySet, now time.Time) (*token.KeySet, error) { return token.FirstSet(first, now) })
	return first, other
}

// Instances that start from a snapshot, and such as have read everything, have the same board, however much goes on and whoever is killed.
func TestTwoInstancesServeOneTruth(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		k := newKit(t, e)
		conn := k.Connect(t)
		k.firstKeys(t, conn)
		first := k.instance(t)
		if from := first.startedFrom(t); from != "none" {
			t.Errorf("the first one started from %s", from)
		}

		var load sync.WaitGroup
		busy, rest := context.WithCancel(ctx)
		defer rest()
		desk := newDesk(t, first.ledger)
		for range 4 {
			load.Go(func() {
				user, _ := k.login(t, booking.User)
				rider, _ := k.login(t, booking.Rider)
				for n := 0; busy.Err() == nil; n++ {
					id := booking.ID(booking.NewID())
					if n%5 == 0 { // somebody tries to be first
						_, _ = conn.JetStream().PublishMsg(ctx, message(id, 1, booking.Requested, user.Actor, "forged"))
						_, _ = conn.JetStream().PublishMsg(ctx, message(id, 2+n%2, booking.Accepted, rider.Actor, "forged"))
					}
					if _, err := desk.Book(ctx, user.command(), id, booking.Trip{}); err != nil {
						t.Error(err)
						return
					}
					if _, err := desk.Accept(ctx, rider.command(), id); err != nil {
						t.Error(err)
						return
					}
					end := desk.Release // and so the rider is free for the next one
					by := rider.command()
					if n%2 == 0 {
						end, by = desk.Cancel, user.command()
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
			second = k.instance(t)
			if from := second.startedFrom(t); from != "snapshot" {
				t.Errorf("round %d: the second one started from %s", round, from)
			}
			wait.Until(t, "it is ready", func() bool { return second.follower.Ready(ctx) == nil })
		}
		rest()
		load.Wait()
		await(t, first.ledger, first.board)
		await(t, first.ledger, second.board)
		if !bytes.Equal(content(t, first.board), content(t, second.board)) {
			t.Error("the two of them show different boards")
		}
		k.equalsAFreshOne(t, second)
		if first.board.Len() == 0 {
			t.Error("nothing was booked")
		}
	})
}

// A snapshot is used only where reading everything would make the same board. Otherwise it is as if it were not there, and replaced.
func TestSnapshotsThatAreNotUsed(t *testing.T) {
	t.Parallel() // most of it is waiting
	type env struct {
		*kit
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
			_, sid := e.login(t, booking.User)
			revoke(t, e.conn, token.Revocation{Session: sid, At: time.Now()})
		}},
		"a session was revoked as of an hour ago": {from: "past", empty: true, after: func(t *testing.T, e *env) {
			revoke(t, e.conn, token.Revocation{Session: e.sid, At: longAgo()})
		}},
		"a revocation was deleted": {from: "past", before: func(t *testing.T, e *env) {
			_, sid := e.login(t, booking.User)
			revoke(t, e.conn, token.Revocation{Session: sid, At: time.Now()})
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
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(e.other, now) })
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
				return set.Retire(now, now.Add(-time.Hour), e.key.ID)
			})
		}},
		"a key has come": {from: "snapshot", after: func(t *testing.T, e *env) {
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(e.other, now) })
		}},
		"a key has come that something was refused for want of": {from: "past", before: func(t *testing.T, e *env) {
			issuer, err := token.NewIssuer(token.IssuerConfig{Key: e.auth.Other, Life: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			id := booking.NewID()
			raw, _, err := issuer.Issue(token.Grant{Subject: id, Role: token.User, Email: "early@example.com"})
			if err != nil {
				t.Fatal(err)
			}
			e.last = store(t, e.conn, message(booking.ID(booking.NewID()), 1, booking.Requested, booking.Actor{ID: id, Role: booking.User}, raw))
		}, after: func(t *testing.T, e *env) {
			changeKeys(t, e.conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(e.other, now) })
		}},
		"its record was tampered with": {from: "unreadable", after: func(t *testing.T, e *env) {
			e.rewrite(t, "snapshot", func(b []byte) []byte { return bytes.Replace(b, []byte(`"seq":`), []byte(`"seq":1`), 1) })
		}},
		"its record was truncated": {from: "unreadable", after: func(t *testing.T, e *env) {
			e.rewrite(t, "snapshot", func(b []byte) []byte { return b[:len(b)-7] })
		}},
		"its record is empty": {from: "unreadable", after: func(t *testing.T, e *env) {
			e.rewrite(t, "snapshot", func([]byte) []byte { return nil })
		}},
		"an older program has made it": {from: "version", after: func(t *testing.T, e *env) {
			e.reseal(t, func(x map[string]any) { x["board"] = 0 })
		}},
		"by older rules of verification": {from: "version", after: func(t *testing.T, e *env) {
			e.reseal(t, func(x map[string]any) { x["v"] = 0; x["what"] = "else" })
		}},
		"its ledger was replaced": {from: "foreign", after: func(t *testing.T, e *env) {
			e.reseal(t, func(x map[string]any) { x["ledger"] = longAgo() })
		}},
		"its ledger was restored, and has gone another way since": {from: "foreign", after: func(t *testing.T, e *env) {
			e.reseal(t, func(x map[string]any) { x["message"] = []byte("another message") })
		}},
		"its ledger has lost events": {from: "foreign", after: func(t *testing.T, e *env) {
			e.reseal(t, func(x map[string]any) { x["seq"] = 1000 })
		}},
		"a chunk was tampered with": {from: "torn", after: func(t *testing.T, e *env) {
			e.chunk(t, func(key string) { e.rewrite(t, key, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }) })
		}},
		"a chunk is missing": {from: "torn", after: func(t *testing.T, e *env) {
			e.chunk(t, func(key string) { e.purge(t, key) })
		}},
		"all of it was deleted": {from: "none", after: func(t *testing.T, e *env) { e.purge(t, ">") }},
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
			e := &env{kit: newKit(t, bustest.Run(t))}
			e.conn = e.Connect(t)
			e.key, e.other = e.firstKeys(t, e.conn)
			maker := e.instance(t)
			user, sid := e.login(t, booking.User)
			e.sid = sid
			for range 3 {
				id := booking.ID(booking.NewID())
				if _, err := newDesk(t, maker.ledger).Book(ctx, user.command(), id, booking.Trip{}); err != nil {
					t.Fatal(err)
				}
				store(t, e.conn, message(id, 2, booking.Accepted, booking.Actor{ID: booking.NewID(), Role: booking.Rider}, "forged"))
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

			next := e.instance(t, never)
			if from := next.startedFrom(t); from != c.from {
				t.Errorf("started from %q, want %q", from, c.from)
			}
			e.equalsAFreshOne(t, next)
			if empty := next.board.Len() == 0; empty != c.empty {
				t.Errorf("%d bookings are on the board", next.board.Len())
			}
			next.stop()

			keeper := e.instance(t)
			if _, err := newDesk(t, keeper.ledger).Book(ctx, e.person(booking.User).command(), booking.ID(booking.NewID()), booking.Trip{}); err != nil && !c.empty {
				t.Fatal(err)
			}
			keeper.snapshotUpTo(t, last)
			wait.Until(t, "it has made one itself", func() bool {
				n, _ := keeper.metric(t, "pillion_board_snapshots_total")
				return n > 0 || c.from == "snapshot"
			})
			keeper.stop()
			again := e.instance(t, never)
			if from := again.startedFrom(t); from != "snapshot" {
				t.Errorf("when it was replaced, one started from %q", from)
			}
			e.equalsAFreshOne(t, again)
		})
	}
}

// kv returns the bucket of snapshots.
func (k *kit) kv(t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, err := k.Connect(t).JetStream().KeyValue(t.Context(), bus.BoardsBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// rewrite changes a value as somebody does who may write the bucket.
func (k *kit) rewrite(t testing.TB, key string, change func([]byte) []byte) {
	t.Helper()
	kv := k.kv(t)
	have, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key, change(bytes.Clone(have.Value()))); err != nil {
		t.Fatal(err)
	}
}

// reseal changes the record of a snapshot as a process of ours could have written it.
func (k *kit) reseal(t testing.TB, change func(map[string]any)) {
	t.Helper()
	k.rewrite(t, "snapshot", func(b []byte) []byte {
		d := json.NewDecoder(bytes.NewReader(b[sha256.Size:]))
		d.UseNumber()
		var x map[string]any
		if err := d.Decode(&x); err != nil {
			t.Fatal(err)
		}
		change(x)
		data, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		key, err := hkdf.Key(sha256.New, snapshotKey, nil, "pillion board snapshots", sha256.Size)
		if err != nil {
			t.Fatal(err)
		}
		h := hmac.New(sha256.New, key)
		h.Write(append([]byte{'h', 0}, make([]byte, 8)...))
		h.Write(data)
		return append(h.Sum(nil), data...)
	})
}

// chunk calls do with the key of the last chunk but one of the snapshot: one with bookings.
func (k *kit) chunk(t testing.TB, do func(key string)) {
	t.Helper()
	keys, err := k.kv(t).Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "chunk.") && strings.HasSuffix(key, ".2") { // of each snapshot that is there
			do(key)
		}
	}
}

func (k *kit) purge(t testing.TB, keys string) {
	t.Helper()
	s, err := k.Connect(t).JetStream().Stream(t.Context(), "KV_"+bus.BoardsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+bus.BoardsBucket+"."+keys)); err != nil {
		t.Fatal(err)
	}
}

// With another key, or none, nothing that others have written is believed.
func TestSnapshotsOfAnotherKey(t *testing.T) {
	k := newKit(t, bustest.Run(t))
	conn := k.Connect(t)
	k.firstKeys(t, conn)
	maker := k.instance(t)
	user := k.person(booking.User)
	if _, err := newDesk(t, maker.ledger).Book(t.Context(), user.command(), booking.ID(booking.NewID()), booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	maker.snapshotUpTo(t, 1)
	other := k.instance(t, func(o *bus.SnapshotOptions) { o.Key = bytes.Repeat([]byte("o"), 32); never(o) })
	if from := other.startedFrom(t); from != "unreadable" {
		t.Errorf("started from %q", from)
	}
	for _, o := range []bus.SnapshotOptions{{}, {Key: snapshotKey[:31], Keys: conn.KeyWatch(time.Second), Revocations: conn.Revocations()}, {Key: snapshotKey}} {
		if err := maker.ledger.Follow(board.New()).UseSnapshots(o); err == nil {
			t.Error("settings that cannot work were taken")
		}
	}
}
