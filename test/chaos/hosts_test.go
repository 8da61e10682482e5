//go:build linux

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// hosts are the machines of this process's cluster. In a sandbox each is a network namespace with
// two links: one to the back network of NATS, and one to the front network of people. People and
// the judge are on both networks. Without a sandbox each is a loopback address, and no link can be
// cut.
var hosts network

type network struct {
	real    bool
	refused error // why they are not real
	disks   bool  // whether disks can break here
	made    int
}

// A host is one machine.
type host struct {
	name        string
	back, front string // addresses
	real        bool
}

const (
	// bridges; other is for hosts that are cut off together
	backNet, otherNet, frontNet = "back", "other", "front"
	// the last byte of the address of people, and of the judge
	people = "1"
)

// wire creates the networks.
func (n *network) wire() error {
	if err := ip("link", "set", "lo", "up"); err != nil {
		return err
	}
	for i, bridge := range []string{backNet, frontNet, otherNet} {
		if err := ip("link", "add", "name", bridge, "type", "bridge"); err != nil {
			return err
		}
		if bridge != otherNet {
			if err := ip("addr", "add", fmt.Sprintf("10.77.%d.%s/24", i, people), "dev", bridge); err != nil {
				return err
			}
		}
		if err := ip("link", "set", bridge, "up"); err != nil {
			return err
		}
	}
	return nil
}

// add creates a host.
func (n *network) add(name string) (host, error) {
	n.made++
	if !n.real {
		// Processes that run this at the same time have different IDs.
		a := fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()/250%250, 1+os.Getpid()%250, 10+n.made)
		return host{name: name, back: a, front: a}, nil
	}
	h := host{name: name, back: fmt.Sprintf("10.77.0.%d", 10+n.made), front: fmt.Sprintf("10.77.1.%d", 10+n.made),
		real: true}
	if err := ip("netns", "add", name); err != nil {
		return host{}, err
	}
	if err := h.inside("link", "set", "lo", "up"); err != nil {
		return host{}, err
	}
	for bridge, address := range map[string]string{backNet: h.back, frontNet: h.front} {
		steps := [][]string{
			{"link", "add", "name", h.port(bridge), "type", "veth", "peer", "name", bridge, "netns", name},
			{"link", "set", h.port(bridge), "master", bridge, "up"},
		}
		for _, s := range steps {
			if err := ip(s...); err != nil {
				return host{}, err
			}
		}
		if err := h.inside("addr", "add", address+"/24", "dev", bridge); err != nil {
			return host{}, err
		}
		if err := h.inside("link", "set", bridge, "up"); err != nil {
			return host{}, err
		}
	}
	return h, nil
}

// port returns the name of the host's link to a bridge.
func (h host) port(bridge string) string { return h.name + "-" + bridge[:1] }

// cut takes the host off the back network without notice: all that is sent is lost. Hosts that are
// cut off to the same network still reach each other.
func (h host) cut() error { return ip("link", "set", h.port(backNet), "nomaster") }

// cross moves the host to the other back network, where it reaches only the hosts there.
func (h host) cross() error { return ip("link", "set", h.port(backNet), "master", otherNet) }

// mend undoes cut and cross.
func (h host) mend() error { return ip("link", "set", h.port(backNet), "master", backNet) }

// command returns a command on the host. It ends with this process.
func (h host) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	if h.real {
		cmd = exec.Command("ip", append([]string{"netns", "exec", h.name, program},
			args...)...) // exec: the shell becomes the program
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	return cmd
}

func (h host) inside(args ...string) error { return ip(append([]string{"-n", h.name}, args...)...) }

// ip changes links and addresses.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
