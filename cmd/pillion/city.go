package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/pipe"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/sim"
	"github.com/example/pillion/web/live"
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

// A city is the simulated city of a demonstration. It is safe for concurrent use.
type city struct {
	people sim.Config
	ready  func(context.Context) error // waits for the services
	on     atomic.Bool
	turned chan struct{} // has a place for the news that on may have changed
}

var _ live.City = (*city)(nil)

// newCity returns a city and the endpoints by which its people reach the services inside this
// process. Nobody else can use those, so no limit by network counts what they do.
func newCity(base *wiring.Base, parts parts, on bool) (*city, []wiring.Endpoint) {
	hosts := map[string]*pipe.Listener{}
	var endpoints []wiring.Endpoint
	at := func(name string, service wiring.Component) []string {
		hosts[name] = pipe.Listen()
		endpoints = append(endpoints, wiring.Endpoint{Listener: hosts[name], Handler: service.Handler})
		return []string{"http://" + name}
	}
	c := &city{turned: make(chan struct{}, 1)}
	c.on.Store(on)
	c.ready = func(ctx context.Context) error {
		return base.Await(ctx, parts.auth, parts.user, parts.rider, parts.rides.Component())
	}
	c.people = sim.Config{
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
	return c, endpoints
}

// Running implements live.City. What was asked for counts, before the first and after the last
// person is seen.
func (c *city) Running() bool { return c.on.Load() }

// Turn implements live.City.
func (c *city) Turn(on bool) {
	c.on.Store(on)
	select {
	case c.turned <- struct{}{}:
	default:
	}
}

// run plays the city while it is on, until ctx ends.
func (c *city) run(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		if ctx.Err() != nil { // the process stops
			return nil
		}
		return err
	}
	var playing sync.WaitGroup
	defer playing.Wait()
	ending := func() {}
	defer func() { ending() }()
	var stop chan struct{} // nil: nobody books
	for {
		switch on := c.on.Load(); {
		case on && stop == nil:
			// The people are the same as before. Those who are still riding begin anew.
			ending()
			playing.Wait()
			stopped := make(chan struct{})
			now, end := context.WithCancel(ctx)
			playing.Go(func() { c.play(now, stopped) })
			stop, ending = stopped, end
		case !on && stop != nil:
			close(stop)
			stop = nil
		}
		select {
		case <-c.turned:
		case <-ctx.Done():
			return nil
		}
	}
}

// play plays the city until stop is closed and all rides under way have ended, or until ctx ends.
func (c *city) play(ctx context.Context, stop <-chan struct{}) {
	again := retry.Policy{First: time.Second, Longest: time.Minute, Notify: func(err error, _ time.Duration) {
		c.people.Log.Warn("the city has no people yet", "error", err)
	}}
	people := c.people
	people.Stop = stop
	_ = again.Do(ctx, func() error { // fails only when ctx ends
		select {
		case <-stop:
			return nil
		default:
		}
		_, err := sim.Run(ctx, people)
		return err
	})
}
