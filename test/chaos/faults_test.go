//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A fault is one way to break a cluster.
type fault struct {
	name string
	real bool // needs real hosts
	disk bool // needs a disk that can break
	long bool // takes minutes, and runs only by name
	// strike breaks something and returns a function that mends it. It passes processes that it
	// kills to down, because their answers may be cut off.
	strike func(c *cluster, chance *rand.Rand, down func(*process)) (mend func() error, err error)
	// lasts is the minimum duration of the fault. The fault always lasts until a booking has been
	// acknowledged again.
	lasts func(chance *rand.Rand) time.Duration
	// writes is the maximum time until bookings are acknowledged again. Zero means that there is no
	// guarantee.
	writes time.Duration
}

// afterKill is the maximum time without acknowledged bookings after the ledger's leader is killed.
const afterKill = 10 * time.Second

func faults() []fault {
	all := []fault{
		{name: "kill -9 the leader", strike: endLeader(syscall.SIGKILL), writes: afterKill},
		{name: "stop the leader", strike: endLeader(syscall.SIGTERM), writes: afterKill},
		{name: "pause a node", strike: pauseNode, lasts: exactly(10 * time.Second)},
		{name: "cut a node off", real: true, strike: cutNode, lasts: upTo(12 * time.Second)},
		{name: "split the network", real: true, strike: split, lasts: upTo(12 * time.Second)},
		{name: "cut a service off", real: true, strike: cutService, lasts: upTo(20 * time.Second)},
		{name: "fill a disk", real: true, strike: fillDisk, lasts: upTo(6 * time.Second)},
		{name: "fail a write", strike: failWrite, lasts: upTo(6 * time.Second)},
		{name: "break a disk", disk: true, strike: breakDisk, lasts: upTo(6 * time.Second)},
		{name: "restart all nodes", strike: rolling},
		{name: "authsvc away", long: true, strike: authsvcAway, lasts: exactly(10 * time.Minute)},
	}
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		all = append(all, fault{name: "kill -9 " + service, strike: killService(service)})
	}
	return all
}

func exactly(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

// upTo returns a random duration: a moment, the maximum, or anything in between.
func upTo(most time.Duration) func(*rand.Rand) time.Duration {
	return func(chance *rand.Rand) time.Duration { return time.Duration(chance.Int64N(int64(most))) }
}

func endLeader(s syscall.Signal) func(*cluster, *rand.Rand, func(*process)) (func() error, error) {
	return func(c *cluster, _ *rand.Rand, _ func(*process)) (func() error, error) {
		n, err := c.leader()
		if err != nil {
			return nil, err
		}
		return n.start, n.end(s)
	}
}

// node returns the leader every other time, and otherwise any node.
func (c *cluster) node(chance *rand.Rand) (*process, error) {
	if chance.IntN(2) == 0 {
		return c.leader()
	}
	return c.nodes[chance.IntN(len(c.nodes))], nil
}

func pauseNode(c *cluster, chance *rand.Rand, _ func(*process)) (func() error, error) {
	n, err := c.node(chance)
	if err != nil {
		return nil, err
	}
	return n.resume, n.pause()
}

func cutNode(c *cluster, chance *rand.Rand, _ func(*process)) (func() error, error) {
	n, err := c.node(chance)
	if err != nil {
		return nil, err
	}
	return n.mend, n.cut()
}

// split puts one node and one instance of each service on one side, and the rest on the other.
func split(c *cluster, chance *rand.Rand, _ func(*process)) (func() error, error) {
	n, err := c.node(chance)
	if err != nil {
		return nil, err
	}
	few := []*process{n}
	for _, instances := range c.services {
		few = append(few, instances[chance.IntN(len(instances))])
	}
	for _, p := range few {
		err = errors.Join(err, p.cross())
	}
	return func() (err error) {
		for _, p := range few {
			err = errors.Join(err, p.mend())
		}
		return err
	}, err
}

// service returns a random instance of any service.
func (c *cluster) service(chance *rand.Rand) *process {
	name := []string{"authsvc", "usersvc", "ridersvc"}[chance.IntN(3)]
	return c.services[name][chance.IntN(instances)]
}

func cutService(c *cluster, chance *rand.Rand, _ func(*process)) (func() error, error) {
	p := c.service(chance)
	return p.mend, p.cut()
}

func killService(name string) func(*cluster, *rand.Rand, func(*process)) (func() error, error) {
	return func(c *cluster, chance *rand.Rand, down func(*process)) (func() error, error) {
		p := c.services[name][chance.IntN(instances)]
		down(p)
		return p.start, p.kill()
	}
}

// authsvcAway kills all instances of authsvc. People continue with their tokens.
func authsvcAway(c *cluster, _ *rand.Rand, down func(*process)) (func() error, error) {
	var err error
	for _, p := range c.services["authsvc"] {
		down(p)
		err = errors.Join(err, p.kill())
	}
	return func() (err error) {
		for _, p := range c.services["authsvc"] {
			err = errors.Join(err, p.start())
		}
		return err
	}, err
}

// fillDisk fills the disk of a node. As an operator would, mending makes room and restarts the node
// if it has given up.
func fillDisk(c *cluster, _ *rand.Rand, _ func(*process)) (func() error, error) {
	node, ballast := c.nodes[len(c.nodes)-1], filepath.Join(c.volume, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for size := int64(small); size >= 1<<12; size /= 2 {
		at, err := f.Seek(0, 2)
		for err == nil {
			if err = syscall.Fallocate(int(f.Fd()), 0, at, size); err == nil {
				at, err = f.Seek(0, 2)
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return nil, fmt.Errorf("fill the volume: %w", err)
		}
	}
	return func() error {
		if err := os.Remove(ballast); err != nil {
			return err
		}
		if healthy(node) == nil {
			return nil
		}
		return errors.Join(node.end(syscall.SIGTERM), node.start())
	}, nil
}

// failWrite limits the file size of a node to a few kilobytes, so that its next write fails.
// Mending restarts the node, because it refuses writes to the streams that failed.
func failWrite(c *cluster, chance *rand.Rand, _ func(*process)) (func() error, error) {
	n, err := c.node(chance)
	if err != nil {
		return nil, err
	}
	limit := unix.Rlimit{Cur: 1 << 12, Max: unix.RLIM_INFINITY}
	return func() error { return errors.Join(n.end(syscall.SIGTERM), n.start()) },
		unix.Prlimit(n.pid, unix.RLIMIT_FSIZE, &limit, nil)
}

// breakDisk makes the file system of a node read-only, as the kernel does after an error. Mending
// stops the node, repairs its disk and starts it again.
func breakDisk(c *cluster, _ *rand.Rand, _ func(*process)) (func() error, error) {
	n := c.nodes[0]
	if err := c.disk.Break(); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(n.end(syscall.SIGKILL), c.disk.Repair(), n.start()) }, nil
}

// rolling restarts one node after the other, each after the one before has caught up.
func rolling(c *cluster, _ *rand.Rand, _ func(*process)) (func() error, error) {
	for _, n := range c.nodes {
		if err := errors.Join(n.end(syscall.SIGTERM), n.start()); err != nil {
			return nil, err
		}
		c.awaitWhole(whole)
	}
	return func() error { return nil }, nil
}
