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

	"github.com/example/pillion/authsvc/bound"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// bindingKey is the binding key of all tests.
var bindingKey = bytes.Repeat([]byte{7}, bound.KeySize)

func bind(c *bus.Conn, bucket string) *bound.Bucket {
	return bound.Bind(c.Bucket(bucket), bucket, bindingKey, slog.New(slog.DiscardHandler), nil)
}

// TestARecordOfSomebodyElse writes accounts and sessions straight into their buckets: unbound ones,
// one bound with another key, and copies of good ones under another key and in the other bucket.
func TestARecordOfSomebodyElse(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	ctx := t.Context()
	var log wait.Journal
	accounts := bound.Bind(conn.Bucket(bus.AccountsBucket), bus.AccountsBucket, bindingKey,
		slog.New(slog.NewTextHandler(&log, nil)), nil)
	foreign := bound.Bind(conn.Bucket(bus.AccountsBucket), bus.AccountsBucket,
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
	for _, key := range []string{"unbound", "nothing", "copy", "session", "changed", "short", "foreign"} {
		if got, _, err := accounts.Get(ctx, key); err == nil {
			t.Errorf("%s: it is believed: %s", key, got)
		}
		if err := accounts.Ready(ctx); err == nil {
			t.Errorf("%s: authsvc is ready", key)
		}
		if !strings.Contains(log.String(), "key="+key) {
			t.Errorf("%s: it is not logged", key)
		}
	}
	if got, revision, err := accounts.Get(ctx, "good"); err != nil || string(got) != value || revision == 0 {
		t.Errorf("the good one: %s %v", got, err)
	}
	// It becomes ready when the last one that it has met is gone.
	_, revision, err := plain.Get(ctx, "foreign")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Delete(ctx, "foreign", revision); err != nil {
		t.Fatal(err)
	}
	if err := accounts.Ready(ctx); err != nil {
		t.Errorf("not ready though it is gone: %v", err)
	}
}

// TestAdopt binds what an older build has stored, and what was bound with a lost key.
func TestAdopt(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	plain, records := conn.Bucket(bus.AccountsBucket), bind(conn, bus.AccountsBucket)
	lost := bound.Bind(plain, bus.AccountsBucket, bytes.Repeat([]byte{9}, bound.KeySize),
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
