// Package wiring puts Pillion's packages together, the same way for the program that has all services in it and for those that
// have one.
//
// A [Base] is what every service stands on. From it come a [Part] for each service, and [Serve] runs parts until it is told to stop.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// keyInterval is how often authsvc may be asked about keys that nobody has heard of. Changes arrive without asking.
const keyInterval = time.Second

// drainPatience is what the connection gets to send what is under way, within the two seconds that stopping may take.
const drainPatience = 400 * time.Millisecond

// A Base is what every service stands on: a connection, the keys, what was revoked, and a verifier of tokens. Close it.
type Base struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Conn     *bus.Conn
	Keys     *trust.KeyWatch
	Revoked  *trust.RevocationWatch
	Clock    *trust.Clock
	Verifier *token.Verifier
	Store    Store // the store of a server in this process; nil: there is none

	epoch  *trust.Epoch
	others map[string]*bus.Conn // of services that share the process, each with a connection of its own
}

// A Store is where a NATS server keeps everything.
type Store interface {
	// Volume returns how many bytes its disk has, how many of them are free, and whether that is known.
	Volume() (total, free int64, known bool)
	// Ready returns nil, or why it takes no writes.
	Ready(ctx context.Context) error
}

// At returns how to reach a NATS server elsewhere, under a name that its operators know the connection by.
func At(r setting.Remote, name string) bus.Config {
	return bus.Config{URL: r.URL.Value, CA: r.CA.Value, Name: name}
}

// As returns at as one of our own processes connects, which proves who it is with the key in a file; the key is read, or made, here.
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

// NewBase returns the Base of a process. NATS need not be there yet. Of at, it takes only where and how to connect, and as whom. Services that share
// the process have a connection each, so that each of them can do what belongs to it and nothing else: others are those of the further ones.
func NewBase(log *slog.Logger, at bus.Config, others ...bus.Config) (_ *Base, err error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	at.Log, at.Registerer = log, registry
	conn, err := bus.Connect(at)
	if err != nil {
		return nil, err
	}
	epoch := new(trust.Epoch)
	b := &Base{
		Log: log, Registry: registry, Conn: conn, others: map[string]*bus.Conn{},
		Keys: trust.NewKeyWatch(conn, keyInterval, epoch), Revoked: trust.NewRevocationWatch(conn, epoch), epoch: epoch,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	for _, other := range others {
		other.Log, other.ShareMetricsWith = log, conn
		if b.others[other.Inbox], err = bus.Connect(other); err != nil {
			return nil, err
		}
	}
	if b.Clock, err = trust.NewClock(conn, trust.ClockOptions{Registerer: registry}); err != nil {
		return nil, err
	}
	b.Verifier, err = token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Clock: b.Clock.Right, Registerer: registry})
	if err != nil {
		return nil, fmt.Errorf("make the verifier: %w", err)
	}
	return b, nil
}

// Of returns the Base as a service has it that shares the process: with a connection of its own, if it has one.
func (b *Base) Of(service string) *Base {
	conn, ok := b.others[service]
	if !ok {
		return b
	}
	other := *b
	other.Conn, other.others = conn, nil
	return &other
}

// identity returns what a service acts with by itself. The key in the file is read, or made, here.
func (b *Base) identity(service, file string) (*trust.Identity, error) {
	key, err := bus.LoadOrCreateServiceKey(file)
	if err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Clock: b.Clock.Right, Type: token.ServiceType, CacheSize: 1})
	if err != nil {
		return nil, fmt.Errorf("make the verifier of the service's own tokens: %w", err)
	}
	return trust.NewIdentity(b.Conn, trust.IdentityConfig{Service: service, Key: key, Verifier: verifier, Registerer: b.Registry})
}

// Close drains the connections. Stop everything that uses them first.
func (b *Base) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	var closing errgroup.Group
	for _, conn := range b.others {
		if conn != nil {
			closing.Go(func() error { return conn.Close(ctx) })
		}
	}
	return errors.Join(closing.Wait(), b.Conn.Close(ctx))
}

// part is what the Base itself contributes to a process.
func (b *Base) part() Part {
	return Part{
		Tasks: []program.Task{b.Keys.Run, b.Revoked.Run, b.Clock.Run},
		Checks: []web.Check{
			{Name: "nats", Ready: b.connected},
			{Name: "streams", Ready: b.Conn.Provisioned},
			{Name: "store", Ready: b.writable},
			{Name: "keys", Ready: b.Keys.Ready},
			{Name: "revocations", Ready: b.Revoked.Ready},
			{Name: "clock", Ready: b.Clock.Ready},
		},
	}
}

// connected returns nil when all services of the process are connected, or why one of them is not.
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

// writable returns nil unless something that was written was not stored, and nothing has been since.
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

// persist tries work until it succeeds, ctx ends, or it fails with something that waiting does not mend.
func (b *Base) persist(ctx context.Context, what string, work func(context.Context) error) error {
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval = 50 * time.Millisecond
	pace.MaxInterval = 2 * time.Second
	try := func() (struct{}, error) {
		err := work(ctx)
		if err != nil && fault.KindOf(err) != fault.Unavailable {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	level := slog.LevelInfo // for the first failure: an operator wants to know once
	_, err := backoff.Retry(ctx, try, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, next time.Duration) {
			if b.Conn.Ready(ctx) != nil { // which the connection says itself
				b.Log.Debug(what+" has to wait", "error", err, "retry_in", next)
				return
			}
			b.Log.Log(ctx, level, what+" has to wait", "error", err, "retry_in", next)
			level = slog.LevelDebug
		}))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil // done, or stopped before it could be
}
