// Command pillion runs the whole system in one process, with a NATS server inside, or the three services in one process against a
// NATS server elsewhere. Its command provision makes the streams and buckets on such a server.
package main

import (
	"context"
	"os"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

func main() { os.Exit(program.Main("pillion", run)) }

// commands is the command line.
type commands struct {
	setting.Version
	Run       all             `cmd:"" default:"withargs" help:"Run the whole system in this process (the default)."`
	Provision provision       `cmd:"" help:"Make the streams and buckets on a NATS server, or widen those that are there."`
	Keys      keyCommands     `cmd:"" help:"The keys by which a NATS server elsewhere knows our own services."`
	Certs     certCommands    `cmd:"" help:"Certificates for trying TLS."`
	Bookings  bookingCommands `cmd:"" help:"See bookings, and bring to an end those that nobody else can, beside the running services."`
	Audit     audit           `cmd:"" help:"Read the whole ledger, and report what should not be in it."`
	Backup    makeBackup      `cmd:"" help:"Copy all streams and buckets of a running system to a folder."`
	Restore   restoreBackup   `cmd:"" help:"Make a system of such a copy, in a NATS server that has none."`
	Move      move            `cmd:"" help:"Move the system from the NATS server inside a stopped pillion to one elsewhere."`
	Health    health          `cmd:"" help:"Ask a running pillion whether it serves; for a container's health check."`
}

type health struct {
	OpsAddr setting.Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:3009" placeholder:"HOST:PORT" group:"Addresses:" help:"Where /healthz, /readyz and /metrics are (default: ${default})."`
}

func run(ctx context.Context, env program.Env) error {
	var c commands
	command, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "Bike-taxi bookings, each step an event on NATS JetStream that carries the token of whoever caused it.",
	}, &c, env.Args)
	if err != nil {
		return err
	}
	switch command {
	case "provision":
		return c.Provision.run(ctx, env)
	case "keys init":
		return c.Keys.Init.run(env)
	case "certs init":
		return c.Certs.Init.run(env)
	case "bookings list":
		return c.Bookings.List.run(ctx, env)
	case "bookings show":
		return c.Bookings.Show.run(ctx, env)
	case "bookings cancel":
		return c.Bookings.Cancel.run(ctx, env, time.Hour, func(o wiring.OperatorSession) change { return o.Cancel })
	case "bookings release":
		release := c.Bookings.Release
		return release.run(ctx, env, release.Deadline.Value, func(o wiring.OperatorSession) change { return o.Release })
	case "audit":
		return c.Audit.run(ctx, env)
	case "backup":
		return c.Backup.run(ctx, env)
	case "restore":
		return c.Restore.run(ctx, env)
	case "move":
		return c.Move.run(ctx, env)
	case "health":
		return program.Health(ctx, c.Health.OpsAddr.Value)
	}
	return c.Run.run(ctx, env)
}
