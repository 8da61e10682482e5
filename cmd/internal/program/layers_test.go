package program_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/example/pillion/cmd/internal/program"
)

// A diary records events in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, s)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

// task returns a task that records when its context ends and when it returns. It returns err once
// may is closed.
func (d *diary) task(name string, may <-chan struct{}, err error) program.Task {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name + " cancelled")
		<-may
		d.note(name + " done")
		return err
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestLayersStopInTurn checks that a layer is stopped only when all tasks of the layer above it
// have returned.
func TestLayersStopInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var d diary
		may := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- program.Run(ctx, program.Layer{d.task("bottom", closed(), nil)},
				program.Layer{d.task("middle", closed(), nil)},
				program.Layer{d.task("top", may, nil)})
		}()
		synctest.Wait()
		if got := d.read(); len(got) != 0 {
			t.Fatalf("stopped by itself: %q", got)
		}
		cancel()
		synctest.Wait()
		if got, want := d.read(), []string{"top cancelled"}; !slices.Equal(got, want) {
			t.Fatalf("while the top layer is busy: %q, want %q", got, want)
		}
		close(may)
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		want := []string{"top cancelled", "top done", "middle cancelled", "middle done", "bottom cancelled",
			"bottom done"}
		if got := d.read(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestFailureStopsAll(t *testing.T) {
	defer goleak.VerifyNone(t)
	var d diary
	broken, late := errors.New("broken"), errors.New("could not stop")
	err := program.Run(t.Context(),
		program.Layer{d.task("bottom", closed(), late)},
		program.Layer{func(context.Context) error { return broken }, d.task("beside", closed(), nil)},
		program.Layer{d.task("top", closed(), nil)},
	)
	if !errors.Is(err, broken) || !errors.Is(err, late) {
		t.Errorf("Run: %v, want both failures", err)
	}
	if got := d.read(); len(got) != 6 || got[0] != "top cancelled" {
		t.Errorf("not all were stopped in turn: %q", got)
	}
}

// TestTasksThatEnd checks that neither a finished task nor one that returns its context's error
// counts as a failure.
func TestTasksThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- program.Run(ctx, program.Layer{
				func(context.Context) error { return nil },
				func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			})
		}()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended because a task was done: %v", err)
		default:
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
