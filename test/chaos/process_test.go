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

// A process is a program on a host, which is started again with the same settings whatever has become of it.
type process struct {
	host
	program string
	args    []string
	log     string // the file that it writes to
	alive   string // an address that answers 200 when it can work

	pid  int
	done chan struct{} // closed when it has ended
}

// start begins the process.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := p.command(p.program, p.args...)
	cmd.Env = append(os.Environ(), "LOG_FORMAT=json")
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.pid, p.done = cmd.Process.Pid, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // it is killed more often than not
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

// end sends the process a signal that ends it, and returns when it has ended. One that does not within a while is killed, which is an error.
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
		return fmt.Errorf("%s does not end when it is told to (%v): %w", p.name, s,
			syscall.Kill(p.pid, syscall.SIGKILL))
	}
}

func (p *process) kill() error { return p.end(syscall.SIGKILL) }

// pause stops the process's clock; resume lets it go on as if nothing had happened.
func (p *process) pause() error  { return syscall.Kill(p.pid, syscall.SIGSTOP) }
func (p *process) resume() error { return syscall.Kill(p.pid, syscall.SIGCONT) }

// said returns the last lines of what the process wrote.
func (p *process) said(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// keep starts the process, and ends it when the test is over.
func (p *process) keep(t *testing.T) {
	t.Helper()
	p.log = filepath.Join(t.ArtifactDir(), p.name+".log") // with -artifacts it stays
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
