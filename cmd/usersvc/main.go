// Command usersvc runs the service for users, who book, watch and cancel rides.
package main

import (
	"context"
	"os"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

func main() { os.Exit(program.Main("usersvc", run)) }

// commands is the command line.
type commands struct {
	setting.Version
	Run    serve  `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Health health `cmd:"" help:"Check a running usersvc, for the health check of a container."`
}

type serve struct {
	Addr setting.Addr `name:"user-addr" env:"USER_ADDR" default:"127.0.0.1:3001" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	health
	setting.Remote
	setting.Rides
	setting.Bookings
	setting.Fleet
	setting.ServiceKey
	setting.Snapshots
	setting.HTTP
	setting.TLS
	setting.Streams
	setting.Log
	setting.Profile
}

type health struct {
	OpsAddr setting.Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:3011" placeholder:"HOST:PORT" group:"Addresses:" help:"Address of /healthz, /readyz and /metrics (default: ${default})."`
}

func run(ctx context.Context, env program.Env) error {
	var c commands
	command, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "The service for users: POST /book and the calls that follow it.",
	}, &c, env.Args)
	if err != nil {
		return err
	}
	if command == "health" {
		return program.Health(ctx, c.Health.OpsAddr.Value)
	}
	s := c.Run
	return wiring.ServiceMain{
		Service: "usersvc",
		For:     "POST /book, GET /bookings",
		HTTP:    program.ListenAddr{Name: "usersvc", Flag: "--user-addr (USER_ADDR)", Addr: s.Addr.Value},
		OpsAddr: s.OpsAddr.Value,
		TLS:     s.TLS,
		NATS:    s.Remote,
		Key:     s.ServiceKey.Path("usersvc"),
		Log:     s.Log,
		PProf:   s.PProf.On,
		Build: func(b *wiring.Base) ([]wiring.Component, error) {
			key := s.ServiceKey.Path("usersvc")
			rides, err := b.Rides(s.Rides, s.Fleet, s.Rides.SecretPath(key))
			if err != nil {
				return nil, err
			}
			if err := rides.UseSnapshots(s.Snapshots); err != nil {
				return nil, err
			}
			user, err := rides.User(s.Bookings, s.HTTP, s.Streams, key)
			return []wiring.Component{user, rides.Component()}, err
		},
	}.Run(ctx, env)
}
