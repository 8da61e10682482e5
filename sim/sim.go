// Package sim simulates the people of a city, who use a running Pillion, and checks the result.
//
// Start with [Run]. It uses the services over HTTP and watches bookings over NATS, as apps do, and
// returns a [Report]. [Check] then compares the report with the ledger, which needs an operator's
// access. What people want is a [Scene]: that of a [City], in which riders take time to ride
// somewhere, or that of a [Crowd], which is a load test.
//
// The demand is open-loop: bookings are requested when they are due, however slow earlier answers
// are, and latency is measured from the due time. So a service that stalls shows a high latency
// instead of a low rate. Users and riders are synthetic, and none has network delays.
package sim

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// A Config describes a run. Auth, User, Rider and Scene are required. Other fields have a default,
// which a zero value selects.
type Config struct {
	// The base URLs of the services' instances. Calls go to them in turn, and a retry goes to the
	// next one.
	Auth, User, Rider []string
	NATS              *bus.Config // how watchers reach NATS, without an identity; nil: no watchers
	Watchers          int         // the number of users, and of riders, that watch; 100 by default

	Scene    Scene
	Speed    float64       // how many times faster than ours the scene's clock runs; 1 by default
	Duration time.Duration // how long users book, by the scene's clock; 30 s by default
	// Stop ends the run when it is closed, as the end of Duration does: nobody books any more, and
	// rides under way go on to their end. Optional.
	Stop <-chan struct{}
	// Forget makes a run without an end take no more memory with time: the Report has no figures,
	// and nothing to check the ledger for. Such a run leaves rides as they are when ctx ends.
	Forget bool

	// maximum booking requests in flight, beyond which they are dropped; 1,000 by default
	InFlight int
	Patience time.Duration // how long an actor retries one step; 30 s by default
	Timeout  time.Duration // of one call; 15 s by default

	// Name is the prefix of account names: up to 26 of a to z, 0 to 9 and -; random by default.
	// Existing accounts must have Password.
	Name     string
	Password string // of all accounts; random by default
	Seed     uint64 // of what people decide; random by default
	Record   bool   // whether the Report contains every call

	HTTP     *http.Client   // by default with one connection for each call in flight
	Log      *slog.Logger   // discards by default
	Progress func(Snapshot) // called once a second, from one goroutine; optional
}

// ErrConfig means that a Config is invalid. Its message says what to change.
var ErrConfig = fault.New(fault.Invalid, "simulation", "The configuration of the simulation is invalid.")

// complete returns c with its defaults, or an error that joins one ErrConfig for each invalid
// field.
func (c Config) complete() (Config, error) {
	c.InFlight, c.Watchers = cmp.Or(c.InFlight, 1000), cmp.Or(c.Watchers, 100)
	c.Duration, c.Speed = cmp.Or(c.Duration, 30*time.Second), cmp.Or(c.Speed, 1)
	c.Patience, c.Timeout = cmp.Or(c.Patience, 30*time.Second), cmp.Or(c.Timeout, 15*time.Second)
	c.Name = cmp.Or(c.Name, booking.NewID()[:10])
	c.Password = cmp.Or(c.Password, booking.NewID())
	c.Seed = cmp.Or(c.Seed, rand.Uint64()) //nolint:gosec // no secret
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Progress == nil {
		c.Progress = func(Snapshot) {}
	}
	if c.HTTP == nil {
		// The default transport keeps two connections per host, so most calls would begin with a
		// handshake.
		c.HTTP = &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: c.InFlight + c.Scene.Users + len(c.Scene.Riders), IdleConnTimeout: time.Minute,
		}}
	}
	return c, c.check()
}

// maxSpeed is as fast as positions can be reported without a leap that no service believes.
const maxSpeed = 100

func (c Config) check() error {
	var wrong []error
	refuse := func(format string, args ...any) {
		wrong = append(wrong, ErrConfig.Sayingf(format, args...))
	}
	for name, urls := range map[string][]string{"authsvc": c.Auth, "usersvc": c.User, "ridersvc": c.Rider} {
		if len(urls) == 0 {
			refuse("The address of %s is missing.", name)
		}
		for _, s := range urls {
			if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				refuse("The address of %s must look like http://host:3000; it is %q.", name, s)
			}
		}
	}
	for i, r := range c.Name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' || i >= 26 {
			refuse("The name of a run can have up to 26 of a to z, 0 to 9 and -; it is %q.", c.Name)
			break
		}
	}
	if c.InFlight < 0 || c.Watchers < 0 || c.Duration < 0 || c.Patience < 0 || c.Timeout < 0 {
		refuse("Numbers and durations must be positive.")
	}
	if !(c.Speed > 0 && c.Speed <= maxSpeed) {
		refuse("The speed must be more than 0, and at most %d; it is %g.", maxSpeed, c.Speed)
	}
	if c.Scene.Demand == nil || c.Scene.Users <= 0 {
		refuse("The scene has no people.")
	}
	return errors.Join(wrong...)
}

// A run is the state of a running simulation.
type run struct {
	Config
	began  time.Time
	stats  *stats
	users  []*user
	riders []*rider
	calls  sync.WaitGroup // users who have asked for a ride

	mu    sync.Mutex
	rides map[booking.ID]*ride // from before they are requested
}

// Run creates the accounts, plays the scene until c.Duration is over or ctx ends, waits until all
// actors have finished what they had begun, and returns the Report.
//
// If ctx ends early there is still a Report. Errors: ErrConfig, and why the accounts could not be
// created, of kind fault.Unavailable if a later attempt may succeed. Failures of calls are in the
// Report, and are not errors.
func Run(ctx context.Context, c Config) (*Report, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	r := &run{Config: c, stats: newStats(c), rides: make(map[booking.ID]*ride)}
	r.stats.happened = r.happened
	defer c.HTTP.CloseIdleConnections()
	stop := r.report()
	defer stop()
	if err := r.createActors(ctx); err != nil {
		return nil, err
	}
	watching := r.watch(ctx)
	defer watching.close()

	// Steps that have begun when the run ends are finished. Their own patience bounds that.
	lasting := context.WithoutCancel(ctx)
	if c.Forget {
		lasting = ctx
	}
	ctx, cancel := context.WithTimeout(ctx, r.ours(c.Duration))
	defer cancel()
	go func() {
		select {
		case <-c.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	r.began = time.Now()
	r.stats.phase(Playing, r.began)
	var working sync.WaitGroup
	for _, rider := range r.riders {
		working.Go(func() { rider.work(ctx, lasting) })
	}
	r.arrivals(ctx, lasting)
	r.stats.phase(Finishing, time.Now())
	lasted := time.Since(r.began)
	working.Wait()
	r.calls.Wait()
	seen := watching.settle(r.stats.acknowledged(), c.Patience)
	return r.stats.report(r, lasted, seen), nil
}

// ours returns how long by our clock a duration of the scene is.
func (r *run) ours(d time.Duration) time.Duration { return time.Duration(float64(d) / r.Speed) }

// theirs is the inverse of ours.
func (r *run) theirs(d time.Duration) time.Duration { return time.Duration(float64(d) * r.Speed) }

// report calls Progress once a second until it is stopped.
func (r *run) report() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				r.Progress(r.stats.snapshot())
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
}

// arrivals requests bookings when they are due, until ctx ends.
func (r *run) arrivals(ctx, lasting context.Context) {
	slots := make(chan struct{}, r.InFlight)
	n := 0
	for trip := range r.Scene.Demand {
		due := r.began.Add(r.ours(trip.At))
		if trip.At >= r.Duration {
			break
		}
		if !retry.Sleep(ctx, time.Until(due)) {
			return
		}
		u := r.users[n%len(r.users)]
		n++
		select {
		case slots <- struct{}{}:
		default:
			r.stats.drop()
			continue
		}
		r.stats.inFlight(1)
		r.calls.Go(func() {
			x, ok := u.book(lasting, trip, due)
			<-slots
			r.stats.inFlight(-1)
			if ok {
				u.wait(ctx, lasting, x)
			}
		})
	}
	<-ctx.Done()
}
