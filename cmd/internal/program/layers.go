package program

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// A Task runs until its context ends or its work is done, and then returns nil. Any other return
// value stops the program.
type Task func(context.Context) error

// A Layer is a group of tasks that are stopped together.
type Layer []Task

// Run runs all layers until ctx ends or a task fails. Then it stops the layers in reverse order. A
// layer is stopped when all tasks of the layer after it have returned. Run returns the joined
// errors of the tasks.
func Run(ctx context.Context, layers ...Layer) error {
	over, end := context.WithCancel(ctx)
	defer end()
	stops := make([]func() error, 0, len(layers))
	for _, layer := range layers {
		// Each layer is cancelled separately, so its context must not end with ctx.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		var group errgroup.Group
		for _, task := range layer {
			group.Go(func() error {
				err := task(own)
				if err != nil && own.Err() != nil && errors.Is(err, context.Canceled) {
					return nil // the expected result of cancellation
				}
				if err != nil {
					end()
				}
				return err
			})
		}
		stops = append(stops, func() error {
			cancel()
			return group.Wait()
		})
	}
	<-over.Done()
	var failures []error
	for i := len(stops) - 1; i >= 0; i-- {
		failures = append(failures, stops[i]())
	}
	return errors.Join(failures...)
}
