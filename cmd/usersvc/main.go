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
	Run    serve               `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Health program.HealthCheck `cmd:"" help:"Check a running usersvc, for the health check of a container."`
}

type serve struct {
	Addr setting.Addr `name:"user-addr" env:"USER_ADDR" default:"127.0.0.1:3001" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	setting.Bookings
	wiring.RideService
}

func run(ctx context.Context, env program.Env) error {
	return program.CommandLine{
		Description: "The service for users: POST /book and the calls that follow it.", Ops: "3011",
		Grammar: new(commands),
	}.Run(ctx, env)
}

// Run runs the service.
func (s serve) Run(ctx context.Context, env program.Env) error {
	return s.Serve(ctx, env, wiring.ServiceMain{
		Service: "usersvc", For: "POST /book, GET /bookings",
		HTTP: program.ListenAddr{Name: "usersvc", Flag: "--user-addr (USER_ADDR)", Addr: s.Addr.Value},
	}, func(r *wiring.Rides, key string) (wiring.Component, error) {
		return r.User(s.Bookings, s.HTTP, s.Streams, key)
	})
}
