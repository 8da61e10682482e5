// Command ridersvc runs the service for riders, who find, accept and complete bookings.
package main

import (
	"context"
	"os"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

func main() { os.Exit(program.Main("ridersvc", run)) }

// commands is the command line.
type commands struct {
	setting.Version
	Run    serve  `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Health health `cmd:"" help:"Check a running ridersvc, for the health check of a container."`
}

type serve struct {
	Addr setting.Addr `name:"rider-addr" env:"RIDER_ADDR" default:"127.0.0.1:3002" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	health
	setting.Remote
	setting.Rides
	setting.Fleet
	setting.Arrival
	setting.ServiceKey
	setting.Snapshots
	setting.HTTP
	setting.TLS
	setting.Streams
	setting.Log
	setting.Profile
}

type health struct {
	OpsAddr setting.Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:3012" placeholder:"HOST:PORT" group:"Addresses:" help:"Address of /healthz, /readyz and /metrics (default: ${default})."`
}

func run(ctx context.Context, env program.Env) error {
	var c commands
	command, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "The service for riders: POST /accept-booking and the calls that follow it.",
	}, &c, env.Args)
	if err != nil {
		return err
	}
	if command == "health" {
		return program.Health(ctx, c.Health.OpsAddr.Value)
	}
	s := c.Run
	return wiring.ServiceMain{
		Service: "ridersvc",
		For:     "GET /open-bookings, POST /accept-booking",
		HTTP:    program.ListenAddr{Name: "ridersvc", Flag: "--rider-addr (RIDER_ADDR)", Addr: s.Addr.Value},
		OpsAddr: s.OpsAddr.Value,
		TLS:     s.TLS,
		NATS:    s.Remote,
		Key:     s.ServiceKey.Path("ridersvc"),
		Log:     s.Log,
		PProf:   s.PProf.On,
		Build: func(b *wiring.Base) ([]wiring.Component, error) {
			key := s.ServiceKey.Path("ridersvc")
			rides, err := b.Rides(s.Rides, s.Fleet, s.Rides.SecretPath(key))
			if err != nil {
				return nil, err
			}
			if err := rides.UseSnapshots(s.Snapshots); err != nil {
				return nil, err
			}
			rider, err := rides.Rider(s.HTTP, s.Arrival, s.Streams, key)
			return []wiring.Component{rider, rides.Component()}, err
		},
	}.Run(ctx, env)
}
