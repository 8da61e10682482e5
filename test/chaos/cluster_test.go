//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

const (
	nodes     = 3
	instances = 2
	// small is the size of the volume that can be filled, in bytes.
	small = 768 << 20
)

// A cluster is the system under test.
type cluster struct {
	t        *testing.T
	nodes    []*process
	services map[string][]*process
	urls     string // of the nodes
	// the store of the first node, if it is on a disk that can break; else nil
	disk *bustest.Disk
	// the store of the last node, where it is a volume that can be filled; or ""
	volume string

	conn   *bus.Conn // the judge's own, as an operator
	ledger *ledger.Ledger
}

// deadline is how long a booking waits for a rider.
const deadline = 30 * time.Second

// newCluster starts a cluster and waits until it is whole.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	if hosts.refused != nil {
		t.Logf("nothing can be cut here, and no disk be filled or broken: %v", hosts.refused)
	}
	c := &cluster{t: t, services: map[string][]*process{}}
	keys := filepath.Join(dir, "services")
	c.run("keys", "init", "--services", keys, "--conf", c.file(dir, "nats/keys/keys.conf", ""))
	conf, err := os.ReadFile("../../deploy/nats/access.conf")
	c.must(err)
	c.file(dir, "nats/access.conf", string(conf))

	var at []host
	for i := range nodes {
		at = append(at, c.host(fmt.Sprintf("n%d", i+1)))
	}
	var urls, routes []string
	for _, h := range at {
		urls, routes = append(urls, "nats://"+h.back+":4222"), append(routes, "nats-route://"+h.back+":6222")
	}
	for i, h := range at {
		store := filepath.Join(dir, h.name)
		if hosts.disks && i == 0 {
			c.must(os.MkdirAll(store, 0o700))
			c.disk, err = bustest.NewDisk(store, filepath.Join(dir, "disk"), small)
			c.must(err)
			t.Cleanup(func() { c.tell(c.disk.Close()) }) // after the flags of the node
		}
		if h.real && i == nodes-1 {
			c.must(os.MkdirAll(store, 0o700))
			c.must(syscall.Mount("tmpfs", store, "tmpfs", 0, fmt.Sprintf("size=%d", small)))
			t.Cleanup(func() { c.tell(syscall.Unmount(store, 0)) }) // after the flags of the node
			c.volume = store
		}
		p := &process{host: h, program: program("nats-server"), alive: "http://" + h.back + ":8222/healthz"}
		p.args = []string{"-c", c.file(dir, "nats/"+h.name+".conf", fmt.Sprintf(`
			server_name: %s
			listen: "%s:4222"
			http: "%[2]s:8222"
			cluster { name: pillion, listen: "%[2]s:6222", routes: [%s] }
			# More than the small volume has: an operator's mistake, without which no disk ever fills.
			jetstream { store_dir: %q, sync_interval: always, max_file_store: 8GB, max_memory_store: 64MB }
			include ./access.conf`, h.name, h.back, strings.Join(routes, ", "), store))}
		p.keep(t)
		c.nodes = append(c.nodes, p)
	}

	nats := "--nats-url=" + strings.Join(urls, ",")
	c.run("provision", nats, "--replicas=3", "--ledger-size=2GiB", "--service-key="+filepath.Join(keys, "operator.nk"))
	for _, kind := range []struct {
		name string
		port int
		args []string
	}{
		{"authsvc", 3000, []string{"--data=" + filepath.Join(dir, "auth"), "--services=" + keys, "--jwt-expiry=4h", "--address-limit=1000000", "--login-limit=1000"}},
		{"usersvc", 3001, []string{"--booking-deadline=" + deadline.String(), "--book-limit=0", "--open-bookings=0"}},
		{"ridersvc", 3002, []string{"--booking-deadline=" + deadline.String()}},
	} {
		for i := range instances {
			h := c.host(fmt.Sprintf("%s%d", strings.TrimSuffix(kind.name, "svc"), i+1))
			p := &process{host: h, program: program(kind.name),
				alive: fmt.Sprintf("http://%s:%d/readyz", h.front, kind.port+10)}
			p.args = append([]string{nats, "--service-key=" + filepath.Join(keys, kind.name+".nk"), "--request-limit=0",
				fmt.Sprintf("--%s-addr=%s:%d", strings.TrimSuffix(kind.name, "svc"), h.front, kind.port),
				fmt.Sprintf("--ops-addr=%s:%d", h.front, kind.port+10)}, kind.args...)
			p.keep(t)
			c.services[kind.name] = append(c.services[kind.name], p)
		}
	}
	c.urls = strings.Join(urls, ",")
	c.connect(keys)
	c.awaitWhole(whole)
	return c
}

// connect opens the judge's connection, and a ledger on it.
func (c *cluster) connect(keys string) {
	c.t.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(keys, access.Operator))
	c.must(err)
	c.conn, err = bus.Connect(bus.Config{URL: c.urls, Name: "judge", Key: key, Inbox: access.Operator})
	c.must(err)
	watched, stop := context.WithCancel(context.WithoutCancel(c.t.Context()))
	epoch := new(trust.Epoch)
	anchor, err := trustkey.LoadAnchor(filepath.Join(keys, trustkey.AnchorFile), nil)
	c.must(err)
	known := trust.NewKeyWatch(c.conn, anchor, time.Second, epoch)
	revoked := trust.NewRevocationWatch(c.conn, anchor, epoch)
	done := make(chan error, 2)
	go func() { done <- known.Run(watched) }()
	go func() { done <- revoked.Run(watched) }()
	c.t.Cleanup(func() {
		stop()
		c.tell(errors.Join(<-done, <-done))
		c.conn.Close(context.WithoutCancel(c.t.Context()))
	})
	verifier, err := token.NewVerifier(token.Config{Keys: known, Revocations: revoked})
	c.must(err)
	c.ledger, err = ledger.Open(c.conn, ledger.Options{Source: "/judge", Tokens: verifier, Epoch: epoch})
	c.must(err)
}

// base returns the URLs of a service's instances.
func (c *cluster) base(service string, port int) (urls []string) {
	for _, p := range c.services[service] {
		urls = append(urls, fmt.Sprintf("http://%s:%d", p.front, port))
	}
	return urls
}

// all returns all processes.
func (c *cluster) all() []*process {
	all := append([]*process{}, c.nodes...)
	for _, ps := range c.services {
		all = append(all, ps...)
	}
	return all
}

// awaitWhole waits until the cluster is whole: all processes are ready, and every stream has a
// leader and all of its replicas.
func (c *cluster) awaitWhole(patience time.Duration) {
	c.t.Helper()
	over := time.Now().Add(patience)
	var missing error
	for time.Now().Before(over) {
		if missing = c.missing(); missing == nil {
			return
		}
		await(100 * time.Millisecond)
	}
	c.t.Fatalf("not whole again after %v: %v", patience, missing)
}

// missing returns an error that says what is missing, or nil.
func (c *cluster) missing() error {
	for _, p := range c.all() {
		if !p.running() {
			return fmt.Errorf("%s is not running", p.name)
		}
		if err := healthy(p); err != nil {
			return err
		}
	}
	return c.incomplete()
}

// incomplete returns an error that names a stream without all of its replicas, or nil.
func (c *cluster) incomplete() error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
	defer cancel()
	streams := c.conn.JetStream().ListStreams(ctx)
	n := 0
	for s := range streams.Info() {
		n++
		if s.Cluster == nil || s.Cluster.Leader == "" || len(s.Cluster.Replicas) != nodes-1 {
			return fmt.Errorf("stream %s has no leader", s.Config.Name)
		}
		for _, r := range s.Cluster.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("stream %s is behind on %s", s.Config.Name, r.Name)
			}
		}
	}
	if err := streams.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	if n == 0 {
		return errors.New("there are no streams")
	}
	return nil
}

// leader returns the node that leads the ledger.
func (c *cluster) leader() (*process, error) {
	for over := time.Now().Add(30 * time.Second); ; await(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		s, err := c.conn.JetStream().Stream(ctx, bus.LedgerStream)
		var info *jetstream.StreamInfo
		if err == nil {
			info, err = s.Info(ctx)
		}
		cancel()
		if err == nil && info.Cluster != nil {
			for _, n := range c.nodes {
				if n.name == info.Cluster.Leader {
					return n, nil
				}
			}
		}
		if time.Now().After(over) {
			return nil, fmt.Errorf("the ledger has no leader: %w", err)
		}
	}
}

var probes = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// healthy returns nil if a process is ready, or the reason that it reports.
func healthy(p *process) error {
	resp, err := probes.Get(p.alive)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if resp.StatusCode != http.StatusOK {
		var h struct{ Error string }
		_ = json.Unmarshal(body, &h) // NATS answers in JSON, and Pillion in text
		return fmt.Errorf("%s is not ready: %s", p.name, strings.ReplaceAll(strings.TrimSpace(h.Error+string(body)),
			"\n", "; "))
	}
	return nil
}

// await pauses between two checks of a state that cannot be awaited.
func await(d time.Duration) { <-time.After(d) }

// run runs a command of pillion to its end. It may wait for servers.
func (c *cluster) run(args ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program("pillion"), args...).CombinedOutput(); err != nil {
		c.t.Fatalf("pillion %s: %v\n%s", args[0], err, out)
	}
}

// file writes a file and returns its path.
func (c *cluster) file(dir, name, text string) string {
	c.t.Helper()
	path := filepath.Join(dir, name)
	c.must(os.MkdirAll(filepath.Dir(path), 0o700))
	c.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (c *cluster) host(name string) host {
	c.t.Helper()
	h, err := hosts.add(name)
	c.must(err)
	if h.real {
		c.t.Cleanup(func() { c.tell(ip("netns", "del", name)) }) // after the flags of the process
	}
	return h
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) tell(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Error(err)
	}
}
