package bus_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pillion/bus"
	"pillion/bus/bustest"
	"pillion/fault"
)

func TestBucketDeletesAndLists(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
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
