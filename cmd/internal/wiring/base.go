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
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pillion/bus"
	"pillion/cmd/internal/program"
	"pillion/fault"
	"pillion/token"
	"pillion/web"
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
	Keys     *bus.KeyWatch
	Revoked  *bus.RevocationWatch
	Verifier *token.Verifier
}

// NewBase returns the Base of a process. NATS need not be there yet. Of at, it takes only where and how to connect.
func NewBase(log *slog.Logger, at bus.Config) (*Base, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	at.Log, at.Registerer = log, registry
	conn, err := bus.Connect(at)
	if err != nil {
		return nil, err
	}
	b := &Base{Log: log, Registry: registry, Conn: conn, Keys: conn.KeyWatch(keyInterval), Revoked: conn.Revocations()}
	b.Verifier, err = token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Registerer: registry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the verifier: %w", err), b.Close())
	}
	return b, nil
}

// identity returns what a service acts with by itself. The key in the file is read, or made, here.
func (b *Base) identity(service, file string) (*bus.Identity, error) {
	key, err := bus.LoadOrCreateServiceKey(file)
	if err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier(token.Config{Keys: b.Keys, Revocations: b.Revoked, Type: token.ServiceType, CacheSize: 1})
	if err != nil {
		return nil, fmt.Errorf("make the verifier of the service's own tokens: %w", err)
	}
	return b.Conn.Identity(bus.IdentityConfig{Service: service, Key: key, Verifier: verifier, Registerer: b.Registry})
}

// Close drains the connection. Stop everything that uses it first.
func (b *Base) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	return b.Conn.Close(ctx)
}

// part is what the Base itself contributes to a process.
func (b *Base) part() Part {
	return Part{
		Tasks: []program.Task{b.Keys.Run, b.Revoked.Run},
		Checks: []web.Check{
			{Name: "nats", Ready: b.Conn.Ready},
			{Name: "streams", Ready: b.provisioned},
			{Name: "keys", Ready: b.Keys.Ready},
			{Name: "revocations", Ready: b.Revoked.Ready},
		},
	}
}

// provisioned returns nil when the streams and buckets are there.
func (b *Base) provisioned(ctx context.Context) error {
	if err := b.Conn.Ready(ctx); err != nil {
		return err // and do not wait for an answer that cannot come
	}
	// It is the last that Provision makes, and one that an older Pillion did not make.
	last := bus.Buckets()[len(bus.Buckets())-1]
	if _, err := b.Conn.JetStream().KeyValue(ctx, last); err != nil {
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return errors.New("not there yet: run pillion provision")
		}
		return fmt.Errorf("look for bucket %s: %w", last, err)
	}
	return nil
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
			b.Log.Log(ctx, level, what+" has to wait", "error", err, "retry_in", next)
			level = slog.LevelDebug
		}))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil // done, or stopped before it could be
}
