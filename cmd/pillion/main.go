// Command pillion runs all three services in one process, with a NATS server inside or against a
// remote one. Its other commands are for operators: they create the streams of a remote NATS
// server, manage keys, certificates and bookings, and make and restore backups.
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
	Provision provision       `cmd:"" help:"Create the streams and buckets of a NATS server, or raise the limits of existing ones."`
	Keys      keyCommands     `cmd:"" help:"Manage the keys with which Pillion's services log in to a remote NATS server."`
	Certs     certCommands    `cmd:"" help:"Create certificates for trying TLS."`
	Bookings  bookingCommands `cmd:"" help:"Show bookings, and cancel or release those that nobody else can, beside the running services."`
	Audit     audit           `cmd:"" help:"Read the whole ledger and report its faults."`
	Backup    makeBackup      `cmd:"" help:"Back up all streams and buckets of a running system to a folder."`
	Restore   restoreBackup   `cmd:"" help:"Restore a backup to a NATS server without Pillion's streams."`
	Move      move            `cmd:"" help:"Move the system from the data folder of a stopped pillion to a remote NATS server."`
	Health    health          `cmd:"" help:"Check a running pillion, for the health check of a container."`
}

type health struct {
	OpsAddr setting.Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:3009" placeholder:"HOST:PORT" group:"Addresses:" help:"Address of /healthz, /readyz and /metrics (default: ${default})."`
}

func run(ctx context.Context, env program.Env) error {
	var c commands
	command, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "Bike-taxi bookings. " +
			"Each step is an event on NATS JetStream that carries the token of its author.",
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
		return c.Bookings.Cancel.run(ctx, env, time.Hour, func(s wiring.OperatorSession) change { return s.Cancel })
	case "bookings release":
		release := c.Bookings.Release
		return release.run(ctx, env, release.Deadline.Value, func(s wiring.OperatorSession) change { return s.Release })
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
