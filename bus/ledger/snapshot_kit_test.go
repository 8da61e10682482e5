package ledger_test

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

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/snapshot"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

var snapshotKey = bytes.Repeat([]byte("k"), 32)

// An instance is what one of our processes has: a connection, watches, a ledger and a board.
type instance struct {
	conn     *bus.Conn
	ledger   *ledger.Ledger
	board    *board.Board
	follower *ledger.Follower
	metrics  *prometheus.Registry
	stop     func()
}

// newInstance starts an instance that makes snapshots as often as it can, unless options say
// otherwise.
func newInstance(k *ledgertest.Kit, t testing.TB, options ...func(*snapshot.Options)) *instance {
	t.Helper()
	i := &instance{metrics: prometheus.NewRegistry(), board: board.New()}
	i.conn = k.ConnectWith(t, bus.Config{Registerer: i.metrics})
	epoch := new(trust.Epoch)
	o := snapshot.Options{
		Key: snapshotKey, Keys: trust.NewKeyWatch(i.conn, bustest.Anchor(), time.Second, epoch),
		Revocations: trust.NewRevocationWatch(i.conn, bustest.Anchor(), epoch),
		Every:       100 * time.Millisecond, Events: 1,
	}
	for _, set := range options {
		set(&o)
	}
	v, err := token.NewVerifier(token.Config{Keys: o.Keys, Revocations: o.Revocations})
	if err != nil {
		t.Fatal(err)
	}
	if i.ledger, err = ledger.Open(i.conn, ledger.Options{Source: "/test", Tokens: v, Epoch: epoch,
		ForgetEvery: 20 * time.Millisecond}); err != nil {
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

// never makes no snapshots.
func never(o *snapshot.Options) { o.Every = 1000 * time.Hour }

// kill ends an instance in the middle of its work.
func (i *instance) kill() {
	i.conn.NATS().Close()
	i.stop()
}

// metric returns the sum of a metric over its labels, and the values of the labels.
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

// startedFrom waits until an instance reports what it has started from, and returns that.
func (i *instance) startedFrom(t testing.TB) (from string) {
	t.Helper()
	wait.Until(t, "it has started", func() bool {
		_, labels := i.metric(t, "pillion_board_started_from")
		from = strings.Join(labels, "+")
		return from != ""
	})
	return from
}

// snapshotUpTo waits until the instance knows a snapshot up to a sequence.
func (i *instance) snapshotUpTo(t testing.TB, seq uint64) {
	t.Helper()
	wait.Until(t, fmt.Sprintf("a snapshot up to %d", seq), func() bool {
		at, _ := i.metric(t, "pillion_board_snapshot_sequence")
		return uint64(at) >= seq
	})
}

// content returns everything in a board, in bytes.
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
		if errors.Is(err, board.ErrCaptureLost) { // it is being rebuilt
			return content(t, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !first { // the header says how large maps have been
			all = append(all, block...)
		}
	}
}

// equalsAFreshOne fails the test unless the board equals that of a reader that reads the whole
// ledger now.
func equalsAFreshOne(k *ledgertest.Kit, t *testing.T, i *instance) {
	t.Helper()
	fresh, _ := ledgertest.Follow(t, watchingLedger(k, t))
	ledgertest.Await(t, i.ledger, fresh)
	wait.Until(t, "the board is what a fresh reader has", func() bool {
		return i.board.Seq() == fresh.Seq() && bytes.Equal(content(t, i.board), content(t, fresh))
	})
}

// firstKeys publishes the authority's key, and returns it with an unpublished one.
func firstKeys(k *ledgertest.Kit, t *testing.T, conn *bus.Conn) (first, other token.Key) {
	t.Helper()
	first, other = tokentest.KeyOf(&k.Auth.Private.PublicKey), tokentest.KeyOf(&k.Auth.Other.PublicKey)
	changeKeys(t, conn, func(_ *token.KeySet, now time.Time) (*token.KeySet,
		error) {
		return token.FirstSet(first, now)
	})
	return first, other
}

// boardsBucket returns the bucket of snapshots.
func boardsBucket(k *ledgertest.Kit, t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, err := k.Connect(t).JetStream().KeyValue(t.Context(), bus.BoardsBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// rewrite changes a value like a writer without the key.
func rewrite(k *ledgertest.Kit, t testing.TB, key string, change func([]byte) []byte) {
	t.Helper()
	kv := boardsBucket(k, t)
	have, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key, change(bytes.Clone(have.Value()))); err != nil {
		t.Fatal(err)
	}
}

// reseal changes the record of a snapshot like one of our processes.
func reseal(k *ledgertest.Kit, t testing.TB, change func(map[string]any)) {
	t.Helper()
	rewrite(k, t, "snapshot", func(b []byte) []byte {
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

// eachChunk calls do with the key of the last chunk but one of the snapshot, which has bookings.
func eachChunk(k *ledgertest.Kit, t testing.TB, do func(key string)) {
	t.Helper()
	keys, err := boardsBucket(k, t).Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		// of each snapshot that is there
		if strings.HasPrefix(key, "chunk.") && strings.HasSuffix(key, ".2") {
			do(key)
		}
	}
}

func purge(k *ledgertest.Kit, t testing.TB, keys string) {
	t.Helper()
	s, err := k.Connect(t).JetStream().Stream(t.Context(), "KV_"+bus.BoardsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+bus.BoardsBucket+"."+keys)); err != nil {
		t.Fatal(err)
	}
}
