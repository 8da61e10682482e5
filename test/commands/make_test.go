package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// TestMakeRun runs the system by make, with flags, and stops it as Ctrl-C does. The program ends
// with its own status, so make has nothing to complain about. It tells the commit of which it was
// built.
func TestMakeRun(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip(err)
	}
	bin := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "run", "BIN="+bin, "ARGS=--data="+t.TempDir()+" --auth-addr=127.0.0.1:0 "+
		"--user-addr=127.0.0.1:0 --rider-addr=127.0.0.1:0 --ops-addr=127.0.0.1:0 --nats-addr=127.0.0.1:0 --addr=off")
	cmd.Env = append(os.Environ(), "LOG_FORMAT=json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to make and to the program
	p := proctest.Run(t, "make run", cmd)
	t.Cleanup(func() { _ = syscall.Kill(-p.PID(), syscall.SIGKILL) })
	p.Ready(t)
	if err := syscall.Kill(-p.PID(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.Wait(t)
	if out := p.Out.String() + p.Log.String(); !strings.Contains(out, `"stopping"`) || strings.Contains(out, ": *** [") {
		t.Errorf("it does not end in order:\n%s", p.Tail(5))
	}
	if !strings.Contains(p.Out.String(), "Building Pillion; the first time this takes some minutes.\n") {
		t.Errorf("nothing tells what takes so long: %s", p.Out)
	}

	commit, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skipf("there is no commit to tell: %v", err)
	}
	version, err := exec.Command(filepath.Join(bin, "pillion"), "--version").Output()
	if err != nil || !strings.Contains(string(version), "("+string(commit[:12])) {
		t.Errorf("--version prints %q, want the commit %s (%v)", version, commit, err)
	}
}
