// Package program runs the process of a Pillion program: signals, orderly shutdown, error messages
// and exit status.
//
// A main function calls os.Exit(program.Main(name, run)). Its run function binds its addresses with
// [Bind], shows them with [Env.Banner], and blocks in [Run]. The package knows nothing about
// services; package wiring builds those.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	// The public CAs (Mozilla's list), for systems without a list of their own. An image that is
	// made from scratch has none, and nor have many small installations.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
)

// The exit statuses of every Pillion program.
const (
	Stopped     = 0   // stopped by a signal, or done
	Failed      = 1   // failed while it ran
	Unusable    = 2   // a setting, an address, a file or a folder is unusable
	Interrupted = 130 // stopped at once by a second signal
)

// An Env is the environment of a program's run function.
type Env struct {
	Name           string // of the program
	Args           []string
	Stdout, Stderr io.Writer

	log *atomic.Pointer[slog.Logger] // set by Logger
}

// Main calls run with a context that ends at the first SIGINT or SIGTERM, and returns the exit
// status. It prints the errors of run on standard error, one sentence a line. At a second signal
// Main returns at once, without waiting for run.
func Main(name string, run func(context.Context, Env) error) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	env := Env{Name: name, Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr,
		log: new(atomic.Pointer[slog.Logger])}
	return supervise(env, signals, run)
}

// supervise calls run and cancels its context at the first signal.
func supervise(env Env, signals <-chan os.Signal, run func(context.Context, Env) error) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run(ctx, env) }()
	for {
		select {
		case err := <-done:
			return report(env, ctx.Err() != nil, err)
		case <-signals:
			if ctx.Err() != nil {
				fmt.Fprintf(env.Stderr, "%s: stopped at once\n", env.Name)
				return Interrupted
			}
			cancel()
		}
	}
}

// report prints the errors joined in err and returns their exit status. For a fault it prints the
// message only; the cause goes to the log at level debug. stopping means that a signal has asked
// the process to stop.
func report(env Env, stopping bool, err error) int {
	status := Stopped
	for _, e := range leaves(err) {
		var f *fault.Error
		switch {
		case errors.Is(e, setting.ErrAnswered):
		case stopping && errors.Is(e, context.Canceled): // the expected result of the signal
		case errors.As(e, &f) && f.Kind != fault.Internal:
			sentence := f.Message
			if f.Kind != fault.Invalid { // the text around the fault may name the operation
				sentence = strings.Replace(e.Error(), f.Error(), f.Message, 1)
			}
			fmt.Fprintf(env.Stderr, "%s: %s\n", env.Name, sentence)
			if log := env.logger(); log != nil {
				log.Debug("the program failed", "error", e)
			}
			if f.Kind == fault.Invalid {
				status = max(status, Unusable)
			} else {
				status = max(status, Failed)
			}
		default:
			fmt.Fprintf(env.Stderr, "%s: %v\n", env.Name, e)
			status = max(status, Failed)
		}
	}
	return status
}

// logger returns the log of the process, or nil before the settings are known.
func (e Env) logger() *slog.Logger {
	if e.log == nil {
		return nil
	}
	return e.log.Load()
}

// leaves returns the errors joined in err. It looks at the top levels only: errors joined below a
// wrapping error belong to one failure.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}
