//go:build linux

// Package chaos breaks a whole cluster while people use it: three NATS servers and two instances of every service, each a process on a host of its
// own, and whatever may happen to machines and networks. Whatever was acknowledged must be there afterwards, and whoever asks meanwhile must be
// answered. See docs/chaos.md.
package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/example/pillion/bus/bustest"
)

// How the test binary tells itself, in a sandbox, where its folder is. Outside of one it has none yet.
const homeEnv = "PILLION_CHAOS_HOME"

// What asks for faults: a number of them, or some in the course of everything that CI runs.
const (
	roundsEnv = "ROUNDS"
	longEnv   = "PILLION_LONG"
)

// home is where the programs and everything that they write are: on a real disk, and gone when the tests are over.
var home string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if home = os.Getenv(homeEnv); home != "" {
			if err := furnish(); err != nil {
				fmt.Fprintln(os.Stderr, "furnish the sandbox:", err)
				return 1
			}
			return m.Run()
		}
		if os.Getenv(roundsEnv) == "" && os.Getenv(longEnv) == "" { // nothing will be broken, so nothing need be built
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "pillion-chaos-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
		home = dir
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "build the programs:", err)
			return 1
		}
		code, err := again()
		if err == nil {
			return code
		}
		hosts.refused = err
		return m.Run()
	}())
}

// build makes the programs, and the NATS server in the version that go.mod names: as `make build` does, so that most of it is in Go's cache.
func build() error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", home, "github.com/example/pillion/cmd/...",
		"github.com/nats-io/nats-server/v2")
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return cmd.Run()
}

// again runs this binary once more with a network, mounts and process ids of its own, and returns its status. Everything that happens in there
// ends with it, whatever it ends by: hosts, links, volumes and processes. It returns an error where this system does not allow that.
func again() (int, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, errors.New("there is no ip command (iproute2)")
	}
	runtime.LockOSThread() // the sandbox dies with the thread that has made it
	defer runtime.UnlockOSThread()
	within := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd
	}
	// All that furnish will do, tried out.
	try := within("sh", "-ec",
		"mount --make-rprivate /; mount -t proc proc /proc; mount -t tmpfs tmpfs /run; ip link set lo up; ip netns add a; ip link add name x0 type bridge; ip link add name x1 type veth peer name x2")
	if out, err := try.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := within(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), homeEnv+"="+home)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// furnish makes the inside of the sandbox usable.
func furnish() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"none", "/", "", syscall.MS_REC | syscall.MS_PRIVATE}, {"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0}} {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	hosts.real, hosts.disks = true, breakable() == nil
	return hosts.wire()
}

// breakable returns why there can be no disk here that breaks, or nil.
func breakable() error {
	dir, err := os.MkdirTemp(home, "disk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // home goes as well
	disk, err := bustest.NewDisk(dir, filepath.Join(home, "trial"), 16<<20)
	if err != nil {
		return err
	}
	return disk.Close()
}

// program returns the path of one of the programs.
func program(name string) string { return filepath.Join(home, name) }
