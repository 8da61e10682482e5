//go:build linux

// Package chaos breaks a whole cluster while people use it: three NATS servers and two instances of
// each service, each a process on a host of its own. The faults are those of machines and networks.
// Afterwards all acknowledged events must exist, and meanwhile all requests must be answered. See
// docs/chaos.md.
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

// homeEnv passes the test folder to this binary inside the sandbox. Outside it is not set.
const homeEnv = "PILLION_CHAOS_HOME"

// These variables ask for faults: for a number of them, or for some as part of CI.
const (
	roundsEnv = "ROUNDS"
	longEnv   = "PILLION_LONG"
)

// home is the folder of the programs and of all that they write. It is on a real disk, and is
// removed after the tests.
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
		// no fault is requested, so nothing need be built
		if os.Getenv(roundsEnv) == "" && os.Getenv(longEnv) == "" {
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

// build builds the programs as `make build` does, so that most of the result is in Go's cache, and
// the NATS server in the version of go.mod.
func build() error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", home, "github.com/example/pillion/cmd/...",
		"github.com/nats-io/nats-server/v2")
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return cmd.Run()
}

// again runs this binary again in a sandbox, with its own network, mounts and process IDs, and
// returns its exit status. Hosts, links, volumes and processes end with the sandbox, however it
// ends. It returns an error if this system does not allow a sandbox.
func again() (int, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, errors.New("there is no ip command (iproute2)")
	}
	runtime.LockOSThread() // the sandbox dies with the thread that created it
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
	// Try all that furnish will do.
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

// furnish prepares the inside of the sandbox.
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

// breakable returns nil, or why there is no disk here that can break.
func breakable() error {
	dir, err := os.MkdirTemp(home, "disk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // home is removed as well
	disk, err := bustest.NewDisk(dir, filepath.Join(home, "trial"), 16<<20)
	if err != nil {
		return err
	}
	return disk.Close()
}

// program returns the path of one of the programs.
func program(name string) string { return filepath.Join(home, name) }
