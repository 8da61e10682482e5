package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/web"
)

// A Component is one service of a process.
type Component struct {
	Handler http.Handler   // serves its HTTP calls
	Tasks   []program.Task // run in the background
	Checks  []web.Check    // must pass before the process is ready
}

// An Endpoint is a listener and the handler of its requests.
type Endpoint struct {
	Listener net.Listener
	Handler  http.Handler
}

// grace is the time that requests in progress have to finish. A stopping process has two seconds in
// all.
const grace = time.Second

var errStopping = errors.New("the process is stopping")

// Serve runs a process until ctx ends or a task fails: the endpoints, the tasks of the Base and of
// all components, and the ops address. When ctx ends, the process is unready at once. Then Serve
// lets requests in progress finish, stops the tasks, and closes the ops address last. It closes the
// listeners.
func Serve(
	ctx context.Context, b *Base, ops net.Listener, profiling bool, endpoints []Endpoint, components ...Component,
) error {
	checks := []web.Check{{Name: "running", Ready: func(context.Context) error {
		if ctx.Err() != nil {
			return errStopping
		}
		return nil
	}}}
	var tasks, front program.Layer
	for _, c := range append([]Component{b.component()}, components...) {
		checks = append(checks, c.Checks...)
		tasks = append(tasks, c.Tasks...)
	}
	for _, e := range endpoints {
		front = append(front, serve(e, b.Log, grace))
	}
	stop := context.AfterFunc(ctx, func() { b.Log.Info("stopping") })
	defer stop()
	status := Endpoint{Listener: ops, Handler: web.OpsHandler(b.Registry, checks, profiling)}
	// The grace period is short here: a scrape in progress is not worth waiting for.
	return program.Run(ctx, program.Layer{serve(status, b.Log, grace/10)}, tasks, front)
}

// Await waits until all checks of the Base and of components pass. If ctx ends before, it returns
// what was not ready.
func (b *Base) Await(ctx context.Context, components ...Component) error {
	return await(ctx, func(ctx context.Context) error {
		for _, c := range append([]Component{b.component()}, components...) {
			for _, check := range c.Checks {
				if err := check.Ready(ctx); err != nil {
					return fmt.Errorf("%s: %w", check.Name, err)
				}
			}
		}
		return nil
	})
}

func serve(e Endpoint, log *slog.Logger, grace time.Duration) program.Task {
	limits := web.DefaultLimits()
	limits.Grace = grace
	return func(ctx context.Context) error { return limits.Serve(ctx, e.Listener, e.Handler, log) }
}
