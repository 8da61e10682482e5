package wiring

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/web"
)

// A Component is what one service contributes to a process.
type Component struct {
	Handler http.Handler   // its HTTP calls
	Tasks   []program.Task // its work in the background
	Checks  []web.Check    // what it needs to be ready
}

// A Endpoint is a handler and where it is served.
type Endpoint struct {
	Listener net.Listener
	Handler  http.Handler
}

// grace is what requests under way get to finish, within the two seconds that stopping may take.
const grace = time.Second

var errStopping = errors.New("the process is stopping")

// Serve runs a process until ctx ends or something fails: the sites, the tasks of the base and of all parts, and the ops address
// that tells how they are. Told to stop it is unready at once; then it lets requests under way finish, then ends the tasks, then
// the ops address. It closes the listeners.
func Serve(ctx context.Context, b *Base, ops net.Listener, profiling bool, sites []Endpoint, parts ...Component) error {
	checks := []web.Check{{Name: "running", Ready: func(context.Context) error {
		if ctx.Err() != nil {
			return errStopping
		}
		return nil
	}}}
	var tasks, front program.Layer
	for _, p := range append([]Component{b.component()}, parts...) {
		checks = append(checks, p.Checks...)
		tasks = append(tasks, p.Tasks...)
	}
	for _, s := range sites {
		front = append(front, serve(s, b.Log, grace))
	}
	stop := context.AfterFunc(ctx, func() { b.Log.Info("stopping") })
	defer stop()
	watch := Endpoint{Listener: ops, Handler: web.OpsHandler(b.Registry, checks, profiling)}
	// A scrape under way is not worth waiting for.
	return program.Run(ctx, program.Layer{serve(watch, b.Log, grace/10)}, tasks, front)
}

func serve(s Endpoint, log *slog.Logger, grace time.Duration) program.Task {
	limits := web.DefaultLimits()
	limits.Grace = grace
	return func(ctx context.Context) error { return limits.Serve(ctx, s.Listener, s.Handler, log) }
}
