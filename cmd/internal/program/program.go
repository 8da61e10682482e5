// Package program is the life of a Pillion process: it starts it, stops it in order when a signal asks for it, and says what went
// wrong with one sentence and an exit status.
//
// A main function is os.Exit(program.Main(run)). The run function binds what it listens on with [Bind], prints with
// [Banner], and blocks in [Run].
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

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
)

// The exit statuses of every Pillion program.
const (
	Stopped     = 0   // as asked
	Failed      = 1   // something failed while it ran
	Unusable    = 2   // a setting, a port, a file or a folder cannot be used
	Interrupted = 130 // by a second signal, at once
)

// Env is what a process is given.
type Env struct {
	Name           string // of the program
	Args           []string
	Stdout, Stderr io.Writer

	log *atomic.Pointer[slog.Logger] // once its settings are known
}

// Main calls run with a context that ends at the first SIGINT or SIGTERM, and returns the exit status. What run returns is told
// on standard error, a sentence a line. At a second signal Main returns without waiting for run.
func Main(name string, run func(context.Context, Env) error) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	return life(Env{Name: name, Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, log: new(atomic.Pointer[slog.Logger])}, signals, run)
}

func life(env Env, signals <-chan os.Signal, run func(context.Context, Env) error) int {
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

// report tells what went wrong and returns the exit status for it: of a fault its sentence, and its cause only where the log is
// at debug. asked says that the process was asked to stop.
func report(env Env, asked bool, err error) int {
	status := Stopped
	for _, e := range leaves(err) {
		var f *fault.Error
		switch {
		case errors.Is(e, setting.ErrAnswered):
		case asked && errors.Is(e, context.Canceled): // that is how it stopped
		case errors.As(e, &f) && f.Kind != fault.Internal:
			sentence := f.Message
			if f.Kind != fault.Invalid { // what is said around it may say what was done
				sentence = strings.Replace(e.Error(), f.Error(), f.Message, 1)
			}
			fmt.Fprintf(env.Stderr, "%s: %s\n", env.Name, sentence)
			if log := env.logger(); log != nil {
				log.Debug("it ended with an error", "error", e)
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

// logger returns the log of the process, or nil where it ended before there was one.
func (e Env) logger() *slog.Logger {
	if e.log == nil {
		return nil
	}
	return e.log.Load()
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) // at the top only: what is joined further down is one failure's story
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}
