package bound_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/authsvc/bound"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// bindingKey is the binding key of all tests.
var bindingKey = bytes.Repeat([]byte{7}, bound.KeySize)

func bind(c *bus.Conn, bucket string) *bound.Bucket {
	return bound.Bind(c, bucket, bindingKey, slog.New(slog.DiscardHandler), nil)
}

// TestARecordOfSomebodyElse writes accounts and sessions straight into their buckets: unbound ones,
// one bound with another key, and copies of good ones under another key and in the other bucket.
func TestARecordOfSomebodyElse(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	ctx := t.Context()
	var log wait.Journal
	accounts := bound.Bind(conn, bus.AccountsBucket, bindingKey,
		slog.New(slog.NewTextHandler(&log, nil)), nil)
	foreign := bound.Bind(conn, bus.AccountsBucket,
		bytes.Repeat([]byte{8}, bound.KeySize), slog.New(slog.DiscardHandler), nil)
	sessions := bind(conn, bus.SessionsBucket)
	const value = `{"v":1,"id":"x"}`
	for key, b := range map[string]*bound.Bucket{"good": accounts, "foreign": foreign} {
		if _, err := b.Create(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sessions.Create(ctx, "session", []byte(value)); err != nil {
		t.Fatal(err)
	}
	raw := func(b *bound.Bucket, key string) []byte {
		t.Helper()
		data, _, err := b.Bucket.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	plain := conn.Bucket(bus.AccountsBucket)
	for key, data := range map[string][]byte{
		"unbound": []byte(value), "nothing": nil, "copy": raw(accounts, "good"), "session": raw(sessions, "session"),
		"changed": bytes.Replace(raw(accounts, "good"), []byte("x"), []byte("y"), 1),
		"short":   []byte(`,"mac":""}`),
	} {
		if _, err := plain.Create(ctx, key, data); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"unbound", "nothing", "copy", "session", "changed", "short", "foreign"}
	for _, key := range all {
		for range 2 {
			if got, _, err := accounts.Get(ctx, key); err == nil {
				t.Errorf("%s: it is believed: %s", key, got)
			}
		}
		if err := accounts.Ready(ctx); err == nil {
			t.Errorf("%s: authsvc is ready", key)
		}
		if n := strings.Count(log.String(), "key="+key+" "); n != 1 {
			t.Errorf("%s: it is logged %d times", key, n)
		}
	}
	if got, revision, err := accounts.Get(ctx, "good"); err != nil || string(got) != value || revision == 0 {
		t.Errorf("the good one: %s %v", got, err)
	}
	// It becomes ready when the last one that it has met is gone.
	for _, key := range all {
		if accounts.Ready(ctx) == nil {
			t.Errorf("ready though %s is there", key)
		}
		if err := plain.Delete(ctx, key, revisionOf(t, plain, key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := accounts.Ready(ctx); err != nil {
		t.Errorf("not ready though all of them are gone: %v", err)
	}
}

// A watching is an authsvc that nobody asks for anything.
type watching struct {
	*bound.Bucket
	log      wait.Journal
	registry *prometheus.Registry
}

// watch starts one.
func watch(t *testing.T, c *bus.Conn, bucket string) *watching {
	t.Helper()
	w := &watching{registry: prometheus.NewRegistry()}
	w.Bucket = bound.Bind(c, bucket, bindingKey, slog.New(slog.NewTextHandler(&w.log, nil)), w.registry)
	bustest.Running(t, w.Watch)
	return w
}

// refuses waits until it is unready because of a key, and has counted so many refusals.
func (w *watching) refuses(t *testing.T, key string, counted float64) {
	t.Helper()
	wait.Until(t, key+" is refused", func() bool {
		err := w.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), key)
	})
	if n := strings.Count(w.log.String(), "key="+key+" "); n != 1 {
		t.Errorf("%s: it was logged %d times", key, n)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var n float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue()
		}
	}
	if n != counted {
		t.Errorf("%s: %v refusals are counted, want %v", key, n, counted)
	}
}

// ready waits until it is ready.
func (w *watching) ready(t *testing.T, when string) {
	t.Helper()
	wait.Until(t, "it is ready when "+when, func() bool { return w.Ready(t.Context()) == nil })
}

// TestForgeriesAreNoticed stores records past authsvc that nobody asks for, also while it is down.
// Each authsvc is unready because of them until they are gone, or overwritten by a true one.
func TestForgeriesAreNoticed(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		for _, bucket := range []string{bus.AccountsBucket, bus.SessionsBucket} {
			testForgeriesAreNoticed(t, e, bucket)
		}
	})
}

func testForgeriesAreNoticed(t *testing.T, e *bustest.Env, bucket string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*wait.Patience)
	defer cancel()
	conn := e.Connect(t)
	plain, owner := conn.Bucket(bucket), bind(conn, bucket)
	const value = `{"v":1,"id":"x"}`
	put := func(key string, data []byte) uint64 {
		t.Helper()
		_, revision, err := plain.Get(ctx, key)
		if err != nil && !errors.Is(err, bus.ErrNoKey) {
			t.Fatal(err)
		}
		if revision, err = plain.Update(ctx, key, data, revision); err != nil {
			t.Fatal(err)
		}
		return revision
	}
	for i := range 600 { // more than are read at once
		if _, err := owner.Create(ctx, fmt.Sprint("true", i), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	good, _, err := plain.Get(ctx, "true500")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Delete(ctx, "true1", revisionOf(t, plain, "true1")); err != nil {
		t.Fatal(err)
	}
	first, second := watch(t, e.Connect(t), bucket), watch(t, e.Connect(t), bucket)
	forged := put("forged", []byte(value))
	for _, w := range []*watching{first, second} {
		w.refuses(t, "forged", 1)
	}
	late := watch(t, e.Connect(t), bucket) // it was down
	late.refuses(t, "forged", 1)
	if _, err := owner.Update(ctx, "forged", []byte(value), forged); err != nil {
		t.Fatal(err)
	}
	all := []*watching{first, second, late}
	for _, w := range all {
		w.ready(t, "a true one has overwritten it")
	}
	put("copy", good) // of another key
	for _, w := range all {
		w.refuses(t, "copy", 2)
	}
	if err := plain.Delete(ctx, "copy", revisionOf(t, plain, "copy")); err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		w.ready(t, "it was deleted")
	}
	put("true500", []byte(value)) // over a true one
	for _, w := range all {
		w.refuses(t, "true500", 3)
	}
	if _, err := owner.Update(ctx, "true500", []byte(value), revisionOf(t, plain, "true500")); err != nil {
		t.Fatal(err)
	}
	s, err := conn.JetStream().Stream(ctx, plain.Stream())
	if err != nil {
		t.Fatal(err)
	}
	// As a filter this subject would match others.
	odd := &nats.Msg{Subject: plain.Subject("*"), Data: []byte(value)}
	if _, err := conn.JetStream().PublishMsg(ctx, odd); err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		w.refuses(t, "*", 4)
	}
	odd.Header = nats.Header{bus.HeaderOperation: {"DEL"}}
	if _, err := conn.JetStream().PublishMsg(ctx, odd); err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		w.ready(t, "that message was deleted")
	}
	put("last", []byte(value))
	for _, w := range all {
		w.refuses(t, "last", 5)
	}
	if err := s.Purge(ctx); err != nil { // which no message announces
		t.Fatal(err)
	}
	for _, w := range all {
		w.ready(t, "the bucket was purged")
	}
	put("again", []byte(value))
	for _, w := range all {
		w.refuses(t, "again", 6)
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
}

func revisionOf(t *testing.T, b *bus.Bucket, key string) uint64 {
	t.Helper()
	_, revision, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// In virtual time a forgery is noticed within five seconds, by an authsvc that runs and by one that
// starts.
func TestForgeriesAreNoticedWithinSeconds(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		conn := e.Connect(t)
		running := watch(t, e.Connect(t), bus.AccountsBucket)
		if _, err := bind(conn, bus.AccountsBucket).Create(t.Context(), "true", []byte(`{"v":1}`)); err != nil {
			t.Fatal(err)
		}
		noticed := func(w *watching, from time.Time) {
			t.Helper()
			wait.Until(t, "it is noticed", func() bool { return w.Ready(t.Context()) != nil })
			if took := time.Since(from); took > 5*time.Second {
				t.Errorf("it is noticed after %v", took)
			}
		}
		stored := time.Now()
		if _, err := conn.Bucket(bus.AccountsBucket).Create(t.Context(), "forged", []byte(`{"v":1}`)); err != nil {
			t.Fatal(err)
		}
		noticed(running, stored)
		started := time.Now()
		noticed(watch(t, e.Connect(t), bus.AccountsBucket), started)
	})
}

// TestAdopt binds what an older build has stored, and what was bound with a lost key.
func TestAdopt(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	plain, records := conn.Bucket(bus.AccountsBucket), bind(conn, bus.AccountsBucket)
	lost := bound.Bind(conn, bus.AccountsBucket, bytes.Repeat([]byte{9}, bound.KeySize),
		slog.New(slog.DiscardHandler), nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	value := func(n int) []byte { return fmt.Appendf(nil, `{"v":1,"n":%d}`, n) }
	type create func(context.Context, string, []byte) (uint64, error)
	for i, create := range []create{plain.Create, lost.Create, records.Create} {
		if _, err := create(ctx, fmt.Sprint("key", i), value(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := records.Adopt(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if got, _, err := records.Get(ctx, fmt.Sprint("key", i)); err != nil || !bytes.Equal(got, value(i)) {
			t.Errorf("key%d: %s %v", i, got, err)
		}
	}
	if _, _, err := records.Get(ctx, "none"); !errors.Is(err, bus.ErrNoKey) {
		t.Errorf("nothing: %v", err)
	}
}
