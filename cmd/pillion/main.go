// Command pillion runs all three services in one process, with a NATS server inside or against a
// remote one. Its other commands are for operators: they create the streams of a remote NATS
// server, manage keys, certificates and bookings, and make and restore backups.
package main

import (
	"context"
	"os"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
)

func main() { os.Exit(program.Main("pillion", run)) }

// commands is the command line.
type commands struct {
	setting.Version
	Run       all                 `cmd:"" default:"withargs" help:"Run the whole system in this process (the default)."`
	Provision provision           `cmd:"" help:"Create the streams and buckets of a NATS server, or raise the limits of existing ones."`
	Keys      keyCommands         `cmd:"" help:"Manage the keys with which Pillion's services log in to a remote NATS server."`
	Certs     certCommands        `cmd:"" help:"Create certificates for trying TLS."`
	Bookings  bookingCommands     `cmd:"" help:"Show bookings, and cancel or release those that nobody else can, beside the running services."`
	Watch     watch               `cmd:"" help:"Follow what happens to bookings, beside the running services."`
	Audit     audit               `cmd:"" help:"Read the whole ledger and report its faults."`
	Backup    makeBackup          `cmd:"" help:"Back up all streams and buckets of a running system to a folder."`
	Restore   restoreBackup       `cmd:"" help:"Restore a backup to a NATS server without Pillion's streams."`
	Move      move                `cmd:"" help:"Move the system from the data folder of a stopped pillion to a remote NATS server."`
	Health    program.HealthCheck `cmd:"" help:"Check a running pillion, for the health check of a container."`
}

func run(ctx context.Context, env program.Env) error {
	return program.CommandLine{
		Description: "Bike-taxi bookings. " +
			"Each step is an event on NATS JetStream that carries the token of its author.",
		Ops: "3009", Grammar: new(commands),
	}.Run(ctx, env)
}
