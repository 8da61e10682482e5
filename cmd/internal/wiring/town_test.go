package wiring

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/pipe"
	"github.com/example/pillion/internal/wait"
)

// A town is a system of three processes and a NATS server in a bubble: authsvc, and twice usersvc
// and ridersvc together. All of them are real. Connections are pipes, and those to NATS are as slow
// as a network.
type town struct {
	t       *testing.T
	dir     string // of keys and data
	log     *wait.Journal
	server  *embedded.Server
	chance  *rand.Rand
	hosts   []*host // authsvc first
	watcher *bus.Conn

	mu   sync.Mutex
	told []feed.Event // by the feed
}

// A host is one process, which can be killed.
type host struct {
	town *town
	name string
	skew atomic.Int64 // how far its wall clock is ahead, in nanoseconds

	mu    sync.Mutex
	pipes map[string]*pipe.Listener // by service; nil: it does not run
	conns []net.Conn
	dead  bool

	rides *Rides
	stop  context.CancelFunc
	done  chan error
	base  *Base
}

// newTown starts a town whose chance events come from a seed.
func newTown(t *testing.T, seed uint64) *town {
	t.Helper()
	w := &town{t: t, dir: t.TempDir(), log: new(wait.Journal), chance: rand.New(rand.NewPCG(seed, 1))}
	keys, err := access.LoadOrCreate(w.services())
	if err != nil {
		t.Fatal(err)
	}
	w.server, err = embedded.Start(embedded.Config{Dir: filepath.Join(w.dir, "nats"), Access: access.Conf(keys, false)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.server.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.watcher = w.operator()
	t.Cleanup(func() { w.watcher.Close(context.Background()) })
	if err := bus.Provision(t.Context(), w.watcher, bus.Plan{LedgerSize: 1 << 28}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	err = feed.Watch(ctx, w.watcher, bus.FeedBookingPattern, func(e feed.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"auth", "one", "two"} {
		h := &host{town: w, name: name}
		w.hosts = append(w.hosts, h)
		h.start()
		t.Cleanup(h.end)
	}
	return w
}

func (w *town) services() string { return filepath.Join(w.dir, "services") }

// as returns how a process connects to NATS with an identity.
func (w *town) as(provider nats.InProcessConnProvider, who string) bus.Config {
	w.t.Helper()
	c, err := As(bus.Config{InProcess: provider}, who, access.KeyFile(w.services(), who))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// operator returns an operator's connection. The caller closes it.
func (w *town) operator() *bus.Conn {
	w.t.Helper()
	conn, err := bus.Connect(w.as(direct{w.server.Provider()}, access.Operator))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// client returns an HTTP client that reaches the services at http://HOST.SERVICE.
func (w *town) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, _ := net.SplitHostPort(addr)
			for _, h := range w.hosts {
				if service, ok := strings.CutPrefix(name, h.name+"."); ok {
					return h.dial(ctx, service)
				}
			}
			return nil, net.UnknownNetworkError(name)
		},
	}}
}

// start starts the process and waits until it is ready.
func (h *host) start() {
	t := h.town.t
	t.Helper()
	h.mu.Lock()
	h.dead, h.conns, h.pipes = false, nil, make(map[string]*pipe.Listener)
	h.mu.Unlock()
	identities := []string{access.Usersvc, access.Ridersvc}
	if h.name == "auth" {
		identities = []string{access.Authsvc, access.Callout}
	}
	log := slog.New(slog.NewTextHandler(h.town.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", h.name)
	wall := func() time.Time { return time.Now().Add(time.Duration(h.skew.Load())) }
	base, err := newBase(log, filepath.Join(h.town.services(), "trust.pub"), wall, h.town.as(h, identities[0]),
		h.town.as(h, identities[1]))
	if err != nil {
		t.Fatal(err)
	}
	var components []Component
	var endpoints []Endpoint
	serve := func(service string, c Component) {
		ln := pipe.Listen()
		h.mu.Lock()
		h.pipes[service] = ln
		h.mu.Unlock()
		endpoints = append(endpoints, Endpoint{Listener: ln, Handler: c.Handler})
		components = append(components, c)
	}
	if h.name == "auth" {
		serve("auth", h.auth(base))
	} else {
		user, rider := h.members(base)
		serve("user", user)
		serve("rider", rider)
		components = append(components, h.rides.Component())
	}
	ctx, stop := context.WithCancel(context.Background())
	h.base, h.stop, h.done = base, stop, make(chan error, 1)
	go func() { h.done <- Serve(ctx, base, pipe.Listen(), false, endpoints, components...) }()
	starting, cancel := context.WithTimeout(ctx, wait.Patience)
	defer cancel()
	if err := base.Await(starting, components...); err != nil {
		t.Fatalf("%s is not ready: %v\n%s", h.name, err, h.town.log)
	}
}

// auth returns authsvc.
func (h *host) auth(base *Base) Component {
	t, dir := h.town.t, h.town.services()
	t.Helper()
	var s setting.Keys
	s.Data.Value, s.Services.Value = h.town.dir, dir
	s.JWTExpiry.Value, s.Service.Value, s.KeyAge.Value = 15*time.Minute, 30*time.Minute, 720*time.Hour
	s.Life.Value, s.Idle.Value, s.Grace.Value = 168*time.Hour, 72*time.Hour, 10*time.Second
	s.LoginLimit.Value, s.AddressLimit.Value = 5, 1_000_000
	binding, err := BindingKey(s.TrustKeyPath(access.KeyFile(dir, access.Authsvc)))
	if err != nil {
		t.Fatal(err)
	}
	auth, err := base.Auth(s, setting.HTTP{}, NATSAccounts(base.Of(access.Authsvc).Conn, binding), dir)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// members returns usersvc and ridersvc, with the default settings.
func (h *host) members(base *Base) (user, rider Component) {
	t, dir := h.town.t, h.town.services()
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	duration := func(d time.Duration) setting.Duration { return setting.Duration{Value: d} }
	count := func(n int) setting.Count { return setting.Count{Value: n} }
	var err error
	h.rides, err = base.Rides(setting.Rides{Deadline: duration(2 * time.Minute), Patience: duration(10 * time.Minute)},
		setting.Fleet{PositionAge: duration(time.Minute), Radius: count(3000)}, filepath.Join(dir, setting.RidesSecret))
	must(err)
	must(h.rides.UseSnapshots(setting.Snapshots{Every: duration(15 * time.Minute), Events: count(50_000)}))
	limits := setting.Streams{PerAccount: count(10), Total: count(10_000)}
	user, err = h.rides.User(setting.Bookings{Tariff: setting.Tariff{Value: booking.DefaultTariff()}}, setting.HTTP{},
		limits, access.KeyFile(dir, access.Usersvc))
	must(err)
	rider, err = h.rides.Rider(setting.HTTP{}, setting.Arrival{Within: count(500)}, limits,
		access.KeyFile(dir, access.Ridersvc))
	must(err)
	return user, rider
}

// end stops the process in order, if it runs.
func (h *host) end() {
	if h.stop == nil {
		return
	}
	h.stop()
	if err := <-h.done; err != nil {
		h.town.t.Errorf("%s: %v", h.name, err)
	}
	h.base.Close()
	h.stop = nil
}

// kill ends the process as kill -9 does, as far as others see: from now on nothing leaves it.
func (h *host) kill() {
	h.mu.Lock()
	h.dead = true
	conns := slices.Clone(h.conns)
	h.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	h.end()
}

// dial connects to one of the process's services.
func (h *host) dial(ctx context.Context, service string) (net.Conn, error) {
	h.mu.Lock()
	ln, dead := h.pipes[service], h.dead
	h.mu.Unlock()
	if dead || ln == nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	}
	conn, err := ln.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return h.keep(conn)
}

// InProcessConn implements nats.InProcessConnProvider for the process.
func (h *host) InProcessConn() (net.Conn, error) {
	conn, err := h.town.server.Provider().InProcessConn()
	if err != nil {
		return nil, err
	}
	return h.keep(newSlow(conn))
}

// keep makes a connection end with the process.
func (h *host) keep(conn net.Conn) (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	h.conns = append(h.conns, conn)
	return conn, nil
}

// slow is a connection over a network: what is written arrives some milliseconds later. Without it,
// all that people do would take no time, and nobody would ever race. Writers do not wait: they hold
// locks, and virtual time passes for nobody who waits for a lock.
type slow struct {
	net.Conn
	sent   chan []byte
	closed chan struct{}
	once   sync.Once
}

// longest is the longest way through the network.
const longest = 50 * time.Millisecond

// direct provides slow connections that no process ends.
type direct struct{ nats.InProcessConnProvider }

func (d direct) InProcessConn() (net.Conn, error) {
	conn, err := d.InProcessConnProvider.InProcessConn()
	if err != nil {
		return nil, err
	}
	return newSlow(conn), nil
}

func newSlow(conn net.Conn) *slow {
	s := &slow{Conn: conn, sent: make(chan []byte, 1<<10), closed: make(chan struct{})}
	go s.forward()
	return s
}

// forward sends on what was written, until the connection is closed.
func (s *slow) forward() {
	for {
		select {
		case p := <-s.sent:
			select {
			case <-time.After(rand.N(longest)):
			case <-s.closed:
				return
			}
			if _, err := s.Conn.Write(p); err != nil {
				return
			}
		case <-s.closed:
			return
		}
	}
}

func (s *slow) Write(p []byte) (int, error) {
	select {
	case s.sent <- slices.Clone(p):
		return len(p), nil
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *slow) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}
