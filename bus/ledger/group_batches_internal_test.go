package ledger

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// Where a server syncs later, a single write waits for no batch. Those that are batches in any case
// still share one.
func TestOnlyBatchesShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(GroupBatches)
		var wg sync.WaitGroup
		hold(t, g, &wg)
		for i := range 3 {
			wg.Go(func() {
				pair := []*nats.Msg{guardedMsg(fmt.Sprint("rider", i), 0), guardedMsg(fmt.Sprint("booking", i), 0)}
				if _, err := g.publish(t.Context(), pair); err != nil {
					t.Errorf("write: %v", err)
				}
			})
		}
		crowd(t, g, 2*GroupPays, 1, 0)
		wg.Wait()
		if want := append(slices.Repeat([]int{1}, 1+2*GroupPays), 6); !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// People book, and riders accept, on two processors and a server that syncs later. While a batch is
// staged, the server stores nothing else. So acceptances wait for each other, and a batch has many.
func TestAcceptancesWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, rounds = 32, 40
		server, processors := make(chan struct{}, 1), make(chan struct{}, 2)
		during := func(takes time.Duration, what chan struct{}) {
			what <- struct{}{}
			<-time.After(takes)
			<-what
		}
		var batches atomic.Int64
		batch := func(context.Context, []*nats.Msg) (uint64, error) {
			during(batchTakes, server)
			batches.Add(1)
			return 0, nil
		}
		g := newGroup(GroupBatches, func(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
			if len(msgs) > 1 {
				return batch(ctx, msgs)
			}
			during(20*time.Microsecond, server)
			return 0, nil
		}, batch)
		began := time.Now()
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() {
				for round := range rounds {
					id := fmt.Sprint(caller, "-", round)
					during(150*time.Microsecond, processors)
					_, booked := g.publish(t.Context(), []*nats.Msg{guardedMsg(id, 0)})
					during(300*time.Microsecond, processors)
					pair := []*nats.Msg{guardedMsg("rider"+id, 0), guardedMsg(id, 1)}
					if _, err := g.publish(t.Context(), pair); err != nil || booked != nil {
						t.Errorf("write: %v, %v", booked, err)
					}
				}
			})
		}
		wg.Wait()
		n := batches.Load()
		t.Logf("%.0f a second, %.1f in a batch", callers*rounds/time.Since(began).Seconds(), callers*rounds/float64(n))
		if least := int64(callers / 3); callers*rounds/n < least {
			t.Errorf("%d in a batch, want at least %d", callers*rounds/n, least)
		}
	})
}
