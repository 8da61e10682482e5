// Package load simulates many users and riders of a running Pillion and checks the result.
//
// Start with [Run]. It uses the services over HTTP and watches bookings over NATS, as apps do, and
// returns a [Report]. [Check] then compares the report with the ledger, which needs an operator's
// access. The load is open-loop: bookings are requested when they are due, however slow earlier
// answers are, and latency is measured from the due time. So a service that stalls shows a high
// latency instead of a low rate. Users and riders are synthetic: all of them meet at one place, and
// none has network delays.
package load

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
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// A Config describes a load. Auth, User and Rider are required. Other fields have a default, which
// a zero value selects.
type Config struct {
	// The base URLs of the services' instances. Calls go to them in turn, and a retry goes to the
	// next one.
	Auth, User, Rider []string
	NATS              string // nats:// URLs for watchers, separated by commas; no watchers if empty
	CA                string // the file with the CAs of those servers; see [bus.Config]
	Watchers          int    // the number of users, and of riders, that watch; 100 by default

	Users, Riders int           // 100 and 50 by default
	Rate          float64       // bookings per second; 10 by default
	Duration      time.Duration // how long users book; 30 s by default
	// the mean pause between two steps, which varies by a half; 500 ms by default
	Think   time.Duration
	Weights *Weights // DefaultWeights if nil
	// maximum booking requests in flight, beyond which they are dropped; 1,000 by default
	InFlight int
	Patience time.Duration // how long an actor retries one step; 30 s by default
	Timeout  time.Duration // of one call; 15 s by default

	// Name is the prefix of account names: up to 26 of a to z, 0 to 9 and -; random by default.
	// Existing accounts must have Password.
	Name     string
	Password string // of all accounts; random by default
	Seed     uint64 // of random choices; random by default
	Record   bool   // whether the Report contains every call

	HTTP     *http.Client   // by default with one connection for each call in flight
	Log      *slog.Logger   // discards by default
	Progress func(Snapshot) // called once a second, from one goroutine; optional
}

// Weights are the probabilities of optional steps, from 0 to 1.
type Weights struct {
	Places  float64 // that a booking has a pickup and a drop-off
	Cancel  float64 // that a user cancels a booking
	Release float64 // that a rider releases a booking
	Named   float64 // that a rider names the booking to accept, from the list
	Rate    float64 // that a user, or a rider, rates a ride
}

// DefaultWeights returns the weights of an ordinary day.
func DefaultWeights() Weights {
	return Weights{Places: 0.7, Cancel: 0.05, Release: 0.05, Named: 0.3, Rate: 0.5}
}

// ErrConfig means that a Config is invalid. Its message says what to change.
var ErrConfig = fault.New(fault.Invalid, "load", "The configuration of the load is invalid.")

// complete returns c with its defaults, or an error that joins one ErrConfig for each invalid
// field.
func (c Config) complete() (Config, error) {
	c.Users, c.Riders = cmp.Or(c.Users, 100), cmp.Or(c.Riders, 50)
	c.InFlight, c.Watchers = cmp.Or(c.InFlight, 1000), cmp.Or(c.Watchers, 100)
	c.Duration, c.Think = cmp.Or(c.Duration, 30*time.Second), cmp.Or(c.Think, 500*time.Millisecond)
	c.Patience, c.Timeout = cmp.Or(c.Patience, 30*time.Second), cmp.Or(c.Timeout, 15*time.Second)
	c.Rate = cmp.Or(c.Rate, 10)
	if c.Weights == nil {
		w := DefaultWeights()
		c.Weights = &w
	}
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
			MaxIdleConnsPerHost: c.InFlight + c.Users + c.Riders, IdleConnTimeout: time.Minute,
		}}
	}
	return c, c.check()
}

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
	if c.Users < 0 || c.Riders < 0 || c.InFlight < 0 || c.Watchers < 0 || !(c.Rate > 0 && c.Rate <= maxRate) ||
		c.Duration < 0 || c.Think < 0 || c.Patience < 0 || c.Timeout < 0 {
		refuse("Numbers and durations must be positive, and the rate at most %d a second.", maxRate)
	}
	w := *c.Weights
	for _, v := range []float64{w.Places, w.Cancel, w.Release, w.Named, w.Rate} {
		if !(v >= 0 && v <= 1) {
			refuse("A weight must be from 0 to 1; it is %g.", v)
		}
	}
	return errors.Join(wrong...)
}

const maxRate = 100_000 // bookings per second

// A run is the state of a running load.
type run struct {
	Config
	began  time.Time
	stats  *stats
	users  []*user
	riders []*rider
	calls  sync.WaitGroup // booking requests and cancellations in flight

	mu     sync.Mutex
	owners map[booking.ID]*user // by booking, from before it is requested
}

// Run creates the accounts, runs the load until c.Duration is over or ctx ends, waits until all
// actors have finished what they had begun, and returns the Report.
//
// If ctx ends early there is still a Report. Errors: ErrConfig, and why the accounts could not be
// created, of kind fault.Unavailable if a later attempt may succeed. Failures under load are in the
// Report, and are not errors.
func Run(ctx context.Context, c Config) (*Report, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	r := &run{Config: c, began: time.Now(), stats: newStats(c.Record), owners: make(map[booking.ID]*user)}
	defer c.HTTP.CloseIdleConnections()
	stop := r.report()
	defer stop()
	if err := r.createActors(ctx); err != nil {
		return nil, err
	}
	watching := r.watch(ctx)
	defer watching.close()

	// Steps that have begun when the load ends are finished. Their own patience bounds that.
	lasting := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	began := time.Now()
	r.stats.phase(Loading, began)
	var working sync.WaitGroup
	for _, rider := range r.riders {
		working.Go(func() { rider.work(ctx, lasting) })
	}
	r.arrivals(ctx, lasting, began)
	r.stats.phase(Finishing, time.Now())
	lasted := time.Since(began)
	working.Wait()
	r.calls.Wait()
	seen := watching.settle(r.stats.acknowledged(), c.Patience)
	return r.stats.report(r, began, lasted, seen), nil
}

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
func (r *run) arrivals(ctx, lasting context.Context, began time.Time) {
	slots := make(chan struct{}, r.InFlight)
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
		if due.Sub(began) >= r.Duration {
			<-ctx.Done()
		}
		if !retry.Sleep(ctx, time.Until(due)) {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			r.stats.drop()
			continue
		}
		u := r.users[n%len(r.users)]
		r.stats.inFlight(1)
		r.calls.Go(func() {
			id, ok := u.book(lasting, due)
			<-slots
			r.stats.inFlight(-1)
			if ok {
				u.maybeCancel(ctx, lasting, id)
			}
		})
	}
}

// owner returns the user of a booking, or nil if it is not of this run.
func (r *run) owner(id booking.ID) *user {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[id]
}
