package program

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// A Task works until its context ends, or until it is done, and then returns nil. What it returns otherwise stops the program.
type Task func(context.Context) error

// A Layer is tasks that may be stopped together.
type Layer []Task

// Run works on all layers until ctx ends or a task fails. Then it stops the layers in turn, the last one first, and each only
// when all tasks of the one before have returned. It returns what the tasks failed with.
func Run(ctx context.Context, layers ...Layer) error {
	over, end := context.WithCancel(ctx)
	defer end()
	stops := make([]func() error, 0, len(layers))
	for _, layer := range layers {
		// The layers end one after the other and not with ctx, so their contexts do not descend from its end.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		var group errgroup.Group
		for _, task := range layer {
			group.Go(func() error {
				err := task(own)
				if err != nil && own.Err() != nil && errors.Is(err, context.Canceled) {
					return nil // it was told to stop, and says so
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
