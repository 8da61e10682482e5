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
	Run    serve               `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Health program.HealthCheck `cmd:"" help:"Check a running ridersvc, for the health check of a container."`
}

type serve struct {
	Addr setting.Addr `name:"rider-addr" env:"RIDER_ADDR" default:"127.0.0.1:3002" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	setting.Arrival
	wiring.RideService
}

func run(ctx context.Context, env program.Env) error {
	return program.CommandLine{
		Description: "The service for riders: POST /accept-booking and the calls that follow it.", Ops: "3012",
		Grammar: new(commands),
	}.Run(ctx, env)
}

// Run runs the service.
func (s serve) Run(ctx context.Context, env program.Env) error {
	return s.Serve(ctx, env, wiring.ServiceMain{
		Service: "ridersvc", For: "GET /open-bookings, POST /accept-booking",
		HTTP: program.ListenAddr{Name: "ridersvc", Flag: "--rider-addr (RIDER_ADDR)", Addr: s.Addr.Value},
	}, func(r *wiring.Rides, key string) (wiring.Component, error) {
		return r.Rider(s.HTTP, s.Arrival, s.Streams, key)
	})
}
