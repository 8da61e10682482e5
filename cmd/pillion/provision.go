package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// provision is the command that creates the streams and buckets of a remote NATS server.
type provision struct {
	wiring.OperatorFlags
	setting.Ledger
	Timeout setting.Duration `name:"timeout" env:"PROVISION_TIMEOUT" default:"1m" min:"1s" max:"24h" placeholder:"DURATION" group:"NATS:" help:"How long to wait for the NATS server (default: ${default})."`
}

const notInTime = "Cannot create the streams in time. "

var errProvision = fault.New(fault.Unavailable, "provision", notInTime+
	"Check that the NATS server has JetStream and that most servers of a cluster are running, or use a longer --timeout.")

// Run creates the streams. It retries until the timeout while the server is unavailable, and
// reports any other error at once.
func (c provision) Run(ctx context.Context, env program.Env) error {
	o := c.Operator(env, "pillion provision")
	o.At.Trouble = func(err error) {
		fmt.Fprintf(env.Stderr, "%s: %s Retrying for up to %s.\n", env.Name, fault.From(err).Message, c.Timeout.Value)
	}
	return o.Connecting(ctx, func(conn *bus.Conn) error {
		trying, cancel := context.WithTimeout(ctx, c.Timeout.Value)
		defer cancel()
		if err := provisionWhenThere(trying, o.Log, conn, plan(c.Ledger)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(env.Stdout, "The streams and buckets exist: %s, %s, %s and the buckets %s.\n",
			bus.LedgerStream, bus.QuarantineStream, bus.AuditStream, strings.Join(bus.Buckets(), ", "))
		return err
	})
}

// provisionWhenThere retries until the streams exist, ctx ends, or an error other than
// fault.Unavailable occurs.
func provisionWhenThere(ctx context.Context, log *slog.Logger, conn *bus.Conn, streams bus.Plan) error {
	p := retry.Policy{
		First: 100 * time.Millisecond, Longest: 2 * time.Second, When: retry.Unavailable,
		Notify: func(err error, pause time.Duration) { log.Debug("waiting for NATS", "error", err, "retry_in", pause) },
	}
	err := p.Do(ctx, func() error {
		if err := conn.Ready(ctx); err != nil {
			return err
		}
		return bus.Provision(ctx, conn, streams)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		if conn.Ready(ctx) != nil {
			return errProvision.Saying(notInTime + fault.From(conn.Ready(ctx)).Message).Because(err)
		}
		return errProvision.Because(err)
	case ctx.Err() != nil:
		return errors.New("stopped before the streams were created; run it again")
	}
	return err
}

// plan returns the streams that the settings ask for.
func plan(s setting.Ledger) bus.Plan {
	return bus.Plan{
		LedgerAge: s.Age.Value, LedgerSize: s.Size.Value, AuditAge: s.AuditAge.Value, AuditSize: s.AuditSize.Value,
		Replicas: s.Replicas.Value,
	}
}
