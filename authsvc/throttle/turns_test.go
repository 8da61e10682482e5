package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/example/pillion/authsvc/throttle"
)

// A queue records in which order the slots of Turns are taken.
type queue struct {
	*throttle.Turns
	mu    sync.Mutex
	order []string
	full  []string
}

// join lets a caller wait, hold the slot for an instant and give it back. It returns when the
// caller waits, or has been refused.
func (q *queue) join(ctx context.Context, network, name string) {
	go func() {
		done, err := q.Take(ctx, network)
		q.mu.Lock()
		if err == nil {
			q.order = append(q.order, name)
		} else if errors.Is(err, throttle.ErrFull) {
			q.full = append(q.full, name)
		}
		q.mu.Unlock()
		if err == nil {
			done()
		}
	}()
	synctest.Wait()
}

// hold takes a slot until the returned function is called and all have had their turn.
func (q *queue) hold(t *testing.T) (release func()) {
	t.Helper()
	done, err := q.Take(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		done()
		synctest.Wait()
	}
}

func (q *queue) wants(t *testing.T, order, full []string) {
	t.Helper()
	if !slices.Equal(q.order, order) || !slices.Equal(q.full, full) {
		t.Errorf("served %q and refused %q, want %q and %q", q.order, q.full, order, full)
	}
}

// Networks take turns. Within one, who came first is served first.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{Turns: throttle.NewTurns(1, 100)}
		release := q.hold(t)
		for i := range 4 {
			q.join(t.Context(), "a", fmt.Sprint("a", i))
		}
		for i := range 2 {
			q.join(t.Context(), "b", fmt.Sprint("b", i))
		}
		q.join(t.Context(), "c", "c0")
		release()
		q.wants(t, []string{"a0", "b0", "c0", "a1", "b1", "a2", "a3"}, nil)
	})
}

// A flood fills the queue, and those from elsewhere still get in. Places go to the network with the
// fewest waiting.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{Turns: throttle.NewTurns(1, 4)}
		release := q.hold(t)
		for i := range 5 {
			q.join(t.Context(), "a", fmt.Sprint("a", i))
		}
		q.wants(t, nil, []string{"a4"}) // it would only push out its own
		q.join(t.Context(), "b", "b0")
		q.join(t.Context(), "b", "b1")
		q.join(t.Context(), "b", "b2") // both have two now
		q.join(t.Context(), "c", "c0")
		q.join(t.Context(), "d", "d0")
		q.join(t.Context(), "e", "e0") // each of four has one
		release()
		if len(q.order) != 4 || len(q.full) != 7 || !slices.Contains(q.order, "c0") || !slices.Contains(q.order, "d0") {
			t.Errorf("served %q and refused %q, want one of each network but e", q.order, q.full)
		}
	})
}

// Who gives up leaves no place taken, and no slot, whether their turn was about to come or not.
func TestWhoLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{Turns: throttle.NewTurns(1, 2)}
		release := q.hold(t)
		ctx, cancel := context.WithCancel(t.Context())
		q.join(ctx, "a", "a0")
		q.join(ctx, "b", "b0")
		cancel()
		synctest.Wait()
		q.join(t.Context(), "c", "c0")
		q.join(t.Context(), "d", "d0")
		release()
		q.wants(t, []string{"c0", "d0"}, nil)
		for range 100 { // its turn comes while the caller is leaving
			release := q.hold(t)
			ctx, cancel := context.WithCancel(t.Context())
			q.join(ctx, "a", "")
			cancel()
			release()
		}
		q.order = nil
		q.hold(t)() // the slot is still there
		release = q.hold(t)
		q.join(t.Context(), "e", "e0")
		q.join(t.Context(), "f", "f0")
		release()
		q.wants(t, []string{"e0", "f0"}, nil)
	})
}

// A free slot needs no waiting, so it is taken whatever time there is to wait.
func TestAFreeSlotIsTakenAtOnce(t *testing.T) {
	q := throttle.NewTurns(1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		done, err := q.Take(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		done()
	}
}
