package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/pipe"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/sim"
)

// The city of a demonstration: small, and a little faster than life.
const (
	cityUsers, cityRiders = 24, 20
	cityRides             = 30.0 // an hour of the city
	citySpeed             = 4.0
	cityName              = "city"
	// cityPassword is as public as those of the demo accounts.
	cityPassword = "everybody in the city"
)

// errCity means that there is a city without a demonstration.
var errCity = fault.New(fault.Invalid, "city",
	"--city (PILLION_CITY) plays people who book and ride, and needs --demo: their password is public.")

// city returns the endpoints by which the people of a city reach the services inside this process,
// and the component that plays them once all is ready. Nobody else can use those endpoints, so no
// limit by network counts what they do.
func city(base *wiring.Base, parts parts) ([]wiring.Endpoint, wiring.Component) {
	hosts := map[string]*pipe.Listener{}
	var endpoints []wiring.Endpoint
	at := func(name string, service wiring.Component) []string {
		hosts[name] = pipe.Listen()
		endpoints = append(endpoints, wiring.Endpoint{Listener: hosts[name], Handler: service.Handler})
		return []string{"http://" + name}
	}
	people := sim.Config{
		Auth: at("authsvc", parts.auth), User: at("usersvc", parts.user), Rider: at("ridersvc", parts.rider),
		Scene: sim.City{Users: cityUsers, Riders: cityRiders, Rides: cityRides, Seed: 1}.Scene(),
		Speed: citySpeed, Duration: 100 * 365 * 24 * time.Hour, Forget: true,
		Name: cityName, Password: cityPassword, Log: base.Log,
		HTTP: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: cityRiders, IdleConnTimeout: time.Minute,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				name, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return hosts[name].Dial(ctx)
			},
		}},
	}
	play := func(ctx context.Context) error {
		again := retry.Policy{First: time.Second, Longest: time.Minute, Notify: func(err error, _ time.Duration) {
			base.Log.Warn("the city has no people yet", "error", err)
		}}
		err := base.Await(ctx, parts.auth, parts.user, parts.rider, parts.rides.Component())
		if err == nil {
			err = again.Do(ctx, func() error {
				_, err := sim.Run(ctx, people)
				return err
			})
		}
		select {
		case <-ctx.Done(): // the process stops
			return nil
		default:
			return err
		}
	}
	return endpoints, wiring.Component{Tasks: []program.Task{play}}
}
