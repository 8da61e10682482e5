package bus_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

func TestBucketDeletesAndLists(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		b, other := e.Connect(t).Bucket(bus.SessionsBucket), e.Connect(t).Bucket(bus.SessionsBucket)
		list := func(want ...string) {
			t.Helper()
			slices.Sort(want)
			if got, err := other.Keys(ctx); err != nil || !slices.Equal(got, want) {
				t.Errorf("the keys are %q (%v), want %q", got, err, want)
			}
		}
		list()
		revisions := make(map[string]uint64)
		for _, key := range []string{"b", "a.x", "c"} {
			r, err := b.Create(ctx, key, []byte("1"))
			if err != nil {
				t.Fatal(err)
			}
			revisions[key] = r
		}
		list("a.x", "b", "c")
		if err := other.Delete(ctx, "b", revisions["c"]); !errors.Is(err, bus.ErrStale) {
			t.Errorf("a delete of another revision: %v", err)
		}
		if err := other.Delete(ctx, "nothing", 0); !errors.Is(err, bus.ErrStale) {
			t.Errorf("a delete of nothing: %v", err)
		}
		next, err := b.Update(ctx, "b", []byte("2"), revisions["b"])
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Delete(ctx, "b", revisions["b"]); !errors.Is(err, bus.ErrStale) {
			t.Errorf("a delete of an old revision: %v", err)
		}
		list("a.x", "b", "c")
		if err := other.Delete(ctx, "b", next); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Get(ctx, "b"); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of something deleted: %v", err)
		}
		list("a.x", "c")
		if _, err := b.Create(ctx, "b", []byte("3")); err != nil {
			t.Errorf("create after a delete: %v", err)
		}
		list("a.x", "b", "c")
		if _, err := e.Connect(t).Bucket("NOWHERE").Keys(ctx); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("the keys of a bucket that is not there: %v", err)
		}
	})
}

// An erased value is gone in every revision, and its key is free.
func TestBucketErases(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		conn := e.Connect(t)
		b := conn.Bucket(bus.KeysBucket) // which keeps eight revisions
		raw := func() (values []string) {
			t.Helper()
			kv, err := conn.JetStream().KeyValue(ctx, bus.KeysBucket)
			if err != nil {
				t.Fatal(err)
			}
			found, err := kv.History(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range found {
				values = append(values, v.Operation().String()+" "+string(v.Value()))
			}
			return values
		}
		first, err := b.Create(ctx, "k", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Update(ctx, "k", []byte("2"), first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create(ctx, "other", []byte("1")); err != nil {
			t.Fatal(err)
		}
		for _, stale := range []uint64{0, first, second + 1} {
			if err := b.Erase(ctx, "k", stale); !errors.Is(err, bus.ErrStale) {
				t.Errorf("erasing revision %d: %v", stale, err)
			}
		}
		if got := raw(); len(got) != 2 {
			t.Errorf("before, the bucket has %q", got)
		}
		if err := b.Erase(ctx, "k", second); err != nil {
			t.Fatal(err)
		}
		if got := raw(); !slices.Equal(got, []string{"KeyValuePurgeOp "}) {
			t.Errorf("after it, the bucket has %q", got)
		}
		for _, revision := range []uint64{first, second} {
			s, err := conn.JetStream().Stream(ctx, "KV_"+bus.KeysBucket)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := s.GetMsg(ctx, revision); err == nil {
				t.Errorf("revision %d is still there: %s", revision, m.Data)
			}
		}
		if _, _, err := b.Get(ctx, "k"); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of something erased: %v", err)
		}
		if err := b.Erase(ctx, "k", second); !errors.Is(err, bus.ErrStale) {
			t.Errorf("erasing it again: %v", err)
		}
		if keys, err := b.Keys(ctx); err != nil || !slices.Equal(keys, []string{"other"}) {
			t.Errorf("the keys are %q, %v", keys, err)
		}
		if _, err := b.Create(ctx, "k", []byte("3")); err != nil {
			t.Errorf("create after an erasure: %v", err)
		}
		if v, _, err := b.Get(ctx, "k"); err != nil || string(v) != "3" {
			t.Errorf("after that it is %s, %v", v, err)
		}
	})
}

func TestBucket(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		b, other := e.Connect(t).Bucket(bus.AccountsBucket), e.Connect(t).Bucket(bus.AccountsBucket)
		key := booking.NewID()
		if _, _, err := b.Get(ctx, key); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of nothing: %v", err)
		}
		r1, err := b.Create(ctx, key, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Create(ctx, key, []byte("two")); !errors.Is(err, bus.ErrKeyExists) {
			t.Errorf("create over something: %v", err)
		}
		if v, r, err := other.Get(ctx, key); err != nil || string(v) != "one" || r != r1 {
			t.Errorf("get: %q %d %v", v, r, err)
		}
		r2, err := other.Update(ctx, key, []byte("two"), r1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Update(ctx, key, []byte("three"), r1); !errors.Is(err, bus.ErrStale) {
			t.Errorf("update over another revision: %v", err)
		}
		if v, r, err := b.Get(ctx, key); err != nil || string(v) != "two" || r != r2 {
			t.Errorf("get: %q %d %v", v, r, err)
		}
		kv, err := e.Connect(t).JetStream().KeyValue(ctx, bus.AccountsBucket)
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Get(ctx, key); !errors.Is(err, bus.ErrNoKey) {
			t.Errorf("get of something deleted: %v", err)
		}
		if _, err := b.Create(ctx, key, []byte("four")); err != nil {
			t.Errorf("create after a delete: %v", err)
		}
	})
}
