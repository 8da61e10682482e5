package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
)

// A disk takes one write after the other, as a server that syncs each one does, and remembers what
// it was sent at once: the number of commands.
type disk struct {
	turn   chan struct{}
	last   uint64
	sizes  []int
	refuse error  // of the next batch
	stale  string // the guard of which each single write is refused
}

const (
	oneTakes   = 300 * time.Microsecond
	batchTakes = 3500 * time.Microsecond
)

func (d *disk) write(ctx context.Context, takes time.Duration, msgs []*nats.Msg, commands int) (uint64, error) {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	if !retry.Sleep(ctx, takes) {
		return 0, ctx.Err()
	}
	d.sizes = append(d.sizes, commands)
	if d.stale != "" && commands == 1 && guardOf(msgs[0]) == d.stale {
		return 0, &jetstream.APIError{ErrorCode: bus.CodeWrongLastSequence}
	}
	if err := d.refuse; err != nil && commands > 1 {
		d.refuse = nil
		return 0, err
	}
	d.last += uint64(len(msgs))
	return d.last, nil
}

// grouping returns a group that writes to a new disk.
func grouping(from int) (*group, *disk) {
	d := &disk{turn: make(chan struct{}, 1)}
	return newGroup(from,
		func(ctx context.Context, msgs []*nats.Msg) (uint64, error) { return d.write(ctx, oneTakes, msgs, 1) },
		func(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
			guards := map[string]bool{}
			for _, m := range msgs {
				guards[guardOf(m)] = true
			}
			return d.write(ctx, batchTakes, msgs, len(guards))
		}), d
}

// guardedMsg returns a message that is stored if after is the last sequence of a booking.
func guardedMsg(booking string, after uint64) *nats.Msg {
	return &nats.Msg{Subject: booking, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqSubjHeader: {booking + ".>"},
		jetstream.ExpectedLastSubjSeqHeader:     {strconv.FormatUint(after, 10)},
	}}
}

// crowd has n callers write rounds times each, thinking in between, and returns how long that took.
func crowd(t *testing.T, g *group, n, rounds int, think time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for caller := range n {
		wg.Go(func() {
			for round := range rounds {
				if _, err := g.publish(t.Context(), []*nats.Msg{guardedMsg(fmt.Sprint(caller, "-", round), 0)}); err != nil {
					t.Errorf("write: %v", err)
				}
				<-time.After(think)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// Few callers write as they would without a group. Many stay together: they write in few batches,
// and faster.
func TestGroupIsAsLargeAsTheCrowd(t *testing.T) {
	const rounds = 40
	for _, test := range []struct {
		callers int
		batched bool
	}{{1, false}, {8, false}, {15, false}, {32, true}, {64, true}, {128, true}, {300, true}} {
		t.Run(fmt.Sprint(test.callers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, d := grouping(GroupPays)
				took := crowd(t, g, test.callers, rounds, 200*time.Microsecond)
				lone, _ := grouping(0)
				alone := crowd(t, lone, test.callers, rounds, 200*time.Microsecond)
				largest := slices.Max(d.sizes)
				t.Logf("%v, %v one by one; %d writes, of %d commands at most", took, alone, len(d.sizes), largest)
				if !test.batched {
					if took != alone || largest > 1 {
						t.Errorf("took %v, and %v one by one; up to %d at once", took, alone, largest)
					}
					return
				}
				if most := alone * 3 / 4; took > most {
					t.Errorf("took %v, want at most %v", took, most)
				}
				if largest > maxGroup || largest < min(test.callers, maxGroup) {
					t.Errorf("%d commands at once, want %d", largest, min(test.callers, maxGroup))
				}
				// The first ones go alone, and then all together.
				if most := GroupPays + 2*rounds*max(1, (test.callers+maxGroup-1)/maxGroup); len(d.sizes) > most {
					t.Errorf("%d writes, want at most %d", len(d.sizes), most)
				}
			})
		})
	}
}

// hold makes the group wait: a batch of its own is on its way. It returns when others can arrive.
func hold(t *testing.T, g *group, done *sync.WaitGroup) {
	t.Helper()
	done.Go(func() {
		pair := []*nats.Msg{guardedMsg("rider", 0), guardedMsg("held", 0)}
		if _, err := g.publish(t.Context(), pair); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	synctest.Wait()
}

// A caller that gives up while it waits is told that nothing was sent. In a batch it is not. It
// keeps no other caller from its answer, even if it leads.
func TestGivingUpHoldsNobodyUp(t *testing.T) {
	for name, test := range map[string]struct {
		patience time.Duration // of one of them; the write before takes oneTakes
		refuse   error         // what the batch comes to
		unsent   bool          // whether nothing was sent for who gives up
	}{
		"while it waits": {oneTakes / 2, nil, true},
		"in a batch":     {oneTakes + batchTakes/2, nil, false},
		"in a batch that is refused": {oneTakes + batchTakes/2,
			&jetstream.APIError{ErrorCode: bus.CodeWrongLastSequence}, false},
		"in a batch without an outcome": {oneTakes + batchTakes/2, context.DeadlineExceeded, false},
	} {
		for _, first := range []int{0, 1} { // the first one that waits leads
			t.Run(fmt.Sprintf("%s, as number %d", name, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g, d := grouping(2)
					d.refuse = test.refuse
					var wg sync.WaitGroup
					defer wg.Wait()
					hold(t, g, &wg)
					hasty, cancel := context.WithTimeout(t.Context(), test.patience)
					defer cancel()
					errs := make([]error, 3)
					for i := range errs {
						wg.Go(func() {
							ctx := t.Context()
							if i == first {
								ctx = hasty
							}
							_, errs[i] = g.publish(ctx, []*nats.Msg{guardedMsg(fmt.Sprint(i), 0)})
						})
						synctest.Wait()
					}
					wg.Wait()
					for i, err := range errs {
						switch {
						case i != first && !errors.Is(test.refuse, context.DeadlineExceeded) && err != nil:
							t.Errorf("number %d: %v", i, err)
						case i == first && test.unsent != unsent(err):
							t.Errorf("who gave up was told %v", err)
						}
					}
					if g.underWay != 0 || len(g.waiting) > 0 || g.closed {
						t.Errorf("left behind: %d under way, %d waiting", g.underWay, len(g.waiting))
					}
					if _, err := g.publish(t.Context(), []*nats.Msg{guardedMsg("last", 0)}); err != nil {
						t.Errorf("afterwards: %v", err)
					}
				})
			})
		}
	}
}

// A leader that gives up while its crowd gathers leaves the lead to the next one.
func TestLeaderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		var wg sync.WaitGroup
		hold(t, g, &wg)
		crowd(t, g, 4, 1, 0)
		hasty, cancel := context.WithTimeout(t.Context(), gathering/2)
		defer cancel()
		wg.Go(func() {
			if _, err := g.publish(hasty, []*nats.Msg{guardedMsg("hasty", 0)}); !errors.Is(err, errNoTurn) {
				t.Errorf("the leader was told %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { crowd(t, g, 2, 1, 0) })
		wg.Wait()
		if want := []int{1, 4, 2}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// A refused batch is sent again one by one, so each gets its own answer.
func TestRefusedBatchIsSentOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		d.refuse = &jetstream.APIError{ErrorCode: bus.CodeWrongLastSequence}
		var wg sync.WaitGroup
		hold(t, g, &wg)
		crowd(t, g, 5, 1, 0)
		wg.Wait()
		if want := []int{1, 5, 1, 1, 1, 1, 1}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// No batch has two commands under one guard: the server would store both. The second one is told
// that it was overtaken, unless it was decided later.
func TestOneCommandAGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		var wg sync.WaitGroup
		hold(t, g, &wg)
		type result struct {
			seq uint64
			err error
		}
		var got [5]result
		for i, m := range []*nats.Msg{guardedMsg("a", 0), guardedMsg("a", 0), guardedMsg("b", 0), guardedMsg("a", 3),
			guardedMsg("held", 0)} {
			wg.Go(func() { got[i].seq, got[i].err = g.publish(t.Context(), []*nats.Msg{m}) })
			synctest.Wait()
		}
		wg.Wait()
		want := [5]result{{seq: 3}, {err: errOvertaken}, {seq: 4}, {seq: 5}, {err: errOvertaken}}
		if got != want {
			t.Errorf("answers %v, want %v", got, want)
		}
		if want := []int{1, 2, 1}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// One refusal is enough for all who wait with the same decision.
func TestStaleDecisionsAreRefusedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		d.stale = "a.>"
		var wg sync.WaitGroup
		hold(t, g, &wg)
		var errs [5]error
		for i := range errs {
			wg.Go(func() { _, errs[i] = g.publish(t.Context(), []*nats.Msg{guardedMsg("a", 0)}) })
			synctest.Wait()
		}
		wg.Wait()
		for i, err := range errs {
			if outcomeOf(err) != decided || i > 0 && !errors.Is(err, errOvertaken) {
				t.Errorf("number %d was told %v", i, err)
			}
		}
		if want := []int{1, 1}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// A batch has at most a mebibyte.
func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		var wg sync.WaitGroup
		hold(t, g, &wg)
		for i := range 6 {
			m := guardedMsg(fmt.Sprint(i), 0)
			m.Data = make([]byte, maxGroupBytes*2/5)
			wg.Go(func() {
				if _, err := g.publish(t.Context(), []*nats.Msg{m}); err != nil {
					t.Errorf("write: %v", err)
				}
			})
		}
		wg.Wait()
		if want := []int{1, 2, 2, 2}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}

// What must be the ledger's next message goes alone, whatever waits.
func TestAdmittedWritesGoAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := grouping(2)
		var wg sync.WaitGroup
		hold(t, g, &wg)
		m := guardedMsg("a", 0)
		admission{last: 7}.guard(m)
		wg.Go(func() { crowd(t, g, 3, 1, 0) })
		if seq, err := g.publish(t.Context(), []*nats.Msg{m}); err != nil || seq != 3 {
			t.Errorf("stored as %d: %v", seq, err)
		}
		wg.Wait()
		if want := []int{1, 1, 3}; !slices.Equal(d.sizes, want) {
			t.Errorf("writes of %v commands, want %v", d.sizes, want)
		}
	})
}
