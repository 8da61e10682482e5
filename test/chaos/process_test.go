//go:build linux

package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is a program on a host that can be restarted with the same settings.
type process struct {
	host
	program string
	args    []string
	log     string // the file of its output
	alive   string // a URL that answers 200 when the process is ready

	pid  int
	done chan struct{} // closed when the process has ended
}

// start starts the process.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own copy
	cmd := p.command(p.program, p.args...)
	cmd.Env = append(os.Environ(), "LOG_FORMAT=json")
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.pid, p.done = cmd.Process.Pid, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // mostly because it was killed
		close(done)
	}(p.done)
	return nil
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends a signal that ends the process, and waits for its end. After a while it kills the
// process and returns an error.
func (p *process) end(s syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s does not end after %v: %w", p.name, s,
			syscall.Kill(p.pid, syscall.SIGKILL))
	}
}

func (p *process) kill() error { return p.end(syscall.SIGKILL) }

// pause and resume stop and continue the process, which does not notice the time between.
func (p *process) pause() error  { return syscall.Kill(p.pid, syscall.SIGSTOP) }
func (p *process) resume() error { return syscall.Kill(p.pid, syscall.SIGCONT) }

// said returns the last lines of the process's output.
func (p *process) said(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// keep starts the process, and ends it after the test.
func (p *process) keep(t *testing.T) {
	t.Helper()
	p.log = filepath.Join(t.ArtifactDir(), p.name+".log") // stays with -artifacts
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.resume()
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		text, _ := os.ReadFile(p.log)
		for line := range strings.Lines(string(text)) {
			for _, never := range []string{"nats: permissions violation", "panic:", "DATA RACE"} {
				if strings.Contains(line, never) {
					t.Errorf("%s says: %s", p.name, line)
				}
			}
		}
		if t.Failed() {
			t.Logf("%s said at last:\n%s", p.name, p.said(20))
		}
	})
}
