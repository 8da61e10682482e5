// Package wiring assembles services from Pillion's packages, in the same way for the program that
// runs all services and for the programs that run one.
//
// Start with [NewBase], which connects to NATS and verifies tokens. [Base.Auth], [Rides.User] and
// [Rides.Rider] build one [Component] each, and [Serve] runs components until its context ends. A
// program with one service uses [ServiceMain], and an operator's command [Operate]. The package
// reads no settings itself: callers pass them in.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/example/pillion/booking/latest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/bus/vitals"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
	"github.com/example/pillion/web"
)

// keyInterval is the minimum time between two requests to authsvc for unknown keys. Changes of
// known keys arrive without a request.
const keyInterval = time.Second

// The parts of the two seconds in which a process stops; see also grace.
const (
	// lastWords is how long tasks may go on talking to NATS once they are told to stop. A server
	// that is frozen answers none of them, and each would wait for itself.
	lastWords = 500 * time.Millisecond
	// drainTimeout bounds the draining of all connections.
	drainTimeout = 400 * time.Millisecond
)

// A Base holds what all services of a process need: the NATS connection, the signing keys, the
// revocations, the clock and the token verifier. The caller closes it.
type Base struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Conn     *bus.Conn
	Keys     *trust.KeyWatch
	Revoked  *trust.RevocationWatch
	Clock    *trust.Clock
	Verifier *token.Verifier
	Store    Store // of the NATS server in this process; nil if there is none
	Syncs    bool  // whether that server syncs each write to disk

	Flush func() // sends the last spans, after everything else is closed; nil: there are none

	anchor *trustkey.Anchor
	epoch  *trust.Epoch
	latest *latest.Histories    // what the process has followed, for all of its ledgers
	others map[string]*bus.Conn // the other connections of the process, by service
	hurry  *time.Timer          // closes the connections of tasks that do not stop
}

// A Store is the storage of a NATS server in this process.
type Store interface {
	// Volume returns the size of its disk and the free space, both in bytes, and whether they are
	// known.
	Volume() (total, free int64, known bool)
	// Ready returns nil, or the reason why the store accepts no writes.
	Ready(ctx context.Context) error
}

// At returns the configuration of a connection to a remote NATS server. NATS shows the name to its
// operators.
func At(r setting.Remote, name string) bus.Config {
	return bus.Config{URL: r.URL.Value, CA: r.CA.Value, Name: name}
}

// As returns the connection at with the identity who. It reads the key from a file, or creates it.
// Errors: those of the file.
func As(at bus.Config, who, file string) (bus.Config, error) {
	load := bus.LoadOrCreateServiceKey
	if who == access.Callout {
		load = access.LoadCalloutKey
	}
	key, err := load(file)
	if err != nil {
		return bus.Config{}, err
	}
	at.Key, at.Inbox = key, who
	if at.Name == "" {
		at.Name = who
	}
	return at, nil
}

// NewBase returns the Base of a process. NATS need not be reachable yet. Of each configuration it
// uses the address, the TLS settings and the identity. Services that share a process have one
// connection each, so that NATS limits each to its own permissions: at is the first connection, and
// others are the rest.
//
// trusted is the file with the public half of the trust key.
func NewBase(log *slog.Logger, trusted string, at bus.Config, others ...bus.Config) (*Base, error) {
	return newBase(log, trusted, time.Now, at, others...)
}

// newBase is NewBase with the wall clock by which tokens are judged. Tests put it wrong.
func newBase(
	log *slog.Logger, trusted string, wall func() time.Time, at bus.Config, others ...bus.Config,
) (_ *Base, err error) {
	registry := prometheus.NewRegistry()
	anchor, err := trustkey.LoadAnchor(trusted, registry)
	if err != nil {
		return nil, err
	}
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	at.Log, at.Registerer = log, registry
	conn, err := bus.Connect(at)
	if err != nil {
		return nil, err
	}
	epoch := new(trust.Epoch)
	b := &Base{
		Log: log, Registry: registry, Conn: conn, Keys: trust.NewKeyWatch(conn, anchor, keyInterval, epoch),
		Revoked: trust.NewRevocationWatch(conn, anchor, epoch), anchor: anchor, epoch: epoch,
		others: map[string]*bus.Conn{},
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	for _, other := range others {
		other.Log, other.ShareMetricsWith = log, conn
		if b.others[other.Inbox], err = bus.Connect(other); err != nil {
			return nil, err
		}
	}
	if b.latest, err = latest.New(epoch.Version); err != nil {
		return nil, err
	}
	if at.InProcess == nil {
		b.watchNATS()
	}
	b.Clock = trust.NewClock(conn, trust.ClockOptions{Now: wall, Registerer: registry})
	b.Verifier, err = token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Clock: b.Clock.Right,
		Now: wall, Registerer: registry})
	if err != nil {
		return nil, fmt.Errorf("make the verifier: %w", err)
	}
	return b, nil
}

// buildInfo returns the metric that tells which version runs. Its value is always 1.
func buildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "build_info",
		Help: "1, with the release, the commit and the Go version of this program.",
		ConstLabels: prometheus.Labels{
			"version": program.Release, "commit": program.Commit(), "goversion": runtime.Version(),
		},
	})
	g.Set(1)
	return g
}

// Of returns the Base for one service of the process, with that service's own connection if it has
// one.
func (b *Base) Of(service string) *Base {
	conn, ok := b.others[service]
	if !ok {
		return b
	}
	other := *b
	other.Conn, other.others = conn, nil
	return &other
}

// identity returns the identity with which a service acts for the system. It reads the service's
// key from a file, or creates it.
func (b *Base) identity(service, file string) (*trust.Identity, error) {
	key, err := bus.LoadOrCreateServiceKey(file)
	if err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Clock: b.Clock.Right,
		Type: token.ServiceType, CacheSize: 2})
	if err != nil {
		return nil, fmt.Errorf("make the verifier of the service's own tokens: %w", err)
	}
	return trust.NewIdentity(b.Conn, trust.IdentityConfig{Service: service, Key: key, Verifier: verifier,
		Registerer: b.Registry})
}

// Close drains the connections, and sends the last spans. Stop their users first.
func (b *Base) Close() {
	if b.hurry != nil {
		b.hurry.Stop()
	}
	b.close(drainTimeout)
	if b.Flush != nil {
		b.Flush()
	}
}

// close drains the connections, and closes them after a time.
func (b *Base) close(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, conn := range b.others {
		if conn != nil {
			closing.Go(func() { conn.Close(ctx) })
		}
	}
	closing.Go(func() { b.Conn.Close(ctx) })
	closing.Wait()
}

// boundLastWords is a task. When it is told to stop, so are all others, and their connections are
// closed lastWords later, unless Close comes first.
func (b *Base) boundLastWords(ctx context.Context) error {
	<-ctx.Done()
	b.hurry = time.AfterFunc(lastWords, func() { b.close(0) })
	return nil
}

// component returns the tasks and readiness checks of the Base itself.
func (b *Base) component() Component {
	return Component{
		Tasks: []program.Task{b.Keys.Run, b.Revoked.Run, b.Clock.Run, b.boundLastWords},
		Checks: []web.Check{
			{Name: "nats", Ready: b.connected},
			{Name: "streams", Ready: b.Conn.Provisioned},
			{Name: "store", Ready: b.writable},
			{Name: "trust key", Ready: func(context.Context) error { return b.anchor.Ready() }},
			{Name: "keys", Ready: b.Keys.Ready},
			{Name: "revocations", Ready: b.Revoked.Ready},
			{Name: "clock", Ready: b.Clock.Ready},
		},
	}
}

// measures returns the task that measures streams and buckets, about which the connection may ask.
func (b *Base) measures(streams ...string) program.Task {
	for i, s := range streams {
		if slices.Contains(bus.Buckets(), s) {
			streams[i] = bus.BucketStream(s)
		}
	}
	return vitals.New(b.Conn, streams...).Run
}

// connected returns nil if all connections of the process are up, or the first error.
func (b *Base) connected(ctx context.Context) error {
	if err := b.Conn.Ready(ctx); err != nil {
		return err
	}
	for _, conn := range b.others {
		if err := conn.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writable returns nil unless the last write failed to be stored.
func (b *Base) writable(ctx context.Context) error {
	if b.Store != nil {
		if err := b.Store.Ready(ctx); err != nil {
			return err
		}
	}
	err := b.Conn.Writable(ctx)
	for _, conn := range b.others {
		err = errors.Join(err, conn.Writable(ctx))
	}
	return err
}

// persist retries work while it fails with fault.Unavailable. It returns nil on success or when ctx
// ends, and any other error at once.
func (b *Base) persist(ctx context.Context, what string, work func(context.Context) error) error {
	level := slog.LevelInfo // for the first failure; later ones are logged at debug
	p := retry.Policy{
		First: 50 * time.Millisecond, Longest: 2 * time.Second, When: retry.Unavailable,
		Notify: func(err error, pause time.Duration) {
			if b.Conn.Ready(ctx) != nil { // the connection has logged that already
				b.Log.Debug(what+" is delayed", "error", err, "retry_in", pause)
				return
			}
			b.Log.Log(ctx, level, what+" is delayed", "error", err, "retry_in", pause)
			level = slog.LevelDebug
		},
	}
	err := p.Do(ctx, func() error { return work(ctx) })
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
