// Package load books and rides as many users and riders would, at a rate that does not wait for answers, and checks what became of it.
//
// Begin with [Run], which speaks to the services over HTTP and watches over NATS as people do, and returns a [Report]. [Check] then holds what was
// acknowledged against the ledger. The load is open-loop: bookings are asked for when they are due, however slow the answers to earlier ones
// are, and times are measured from when something was due and not from when it could be sent. So a service that stalls is seen to stall.
package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// A Config says what load to put on what. Auth, User and Rider are required, and of the rest there is a default for what is zero.
type Config struct {
	// The base URLs of the services' instances, which are asked in turn. Where one cannot be reached, or breaks off, the next one is asked.
	Auth, User, Rider []string
	NATS              string // where to watch, nats:// URLs separated by commas; empty: nobody watches
	CA                string // the file with the CAs of those servers, as [bus.Config] has it
	Watchers          int    // how many users, and how many riders, watch; 100 by default

	Users, Riders int           // 100 and 50 by default
	Rate          float64       // bookings a second; 10 by default
	Duration      time.Duration // how long bookings are asked for; 30 s by default
	Think         time.Duration // how long people take between one step and the next; 500 ms by default, a half more or less at random
	Weights       *Weights      // nil: DefaultWeights
	InFlight      int           // bookings that are asked for at the same time; 1,000 by default. What is due beyond them is dropped, and counted
	Patience      time.Duration // how long somebody goes on with one step until it is given up; 30 s by default
	Timeout       time.Duration // how long one answer is waited for; 15 s by default

	// Name is what the accounts of this run are called, up to 26 of a to z, 0 to 9 and -; random by default. Those that are there already must have Password.
	Name     string
	Password string // of all of them; random by default
	Seed     uint64 // of what is left to chance; random by default
	Record   bool   // whether the Report has every call

	HTTP     *http.Client   // by default one with a connection for each call under way
	Log      *slog.Logger   // by default nothing is logged
	Progress func(Snapshot) // is told once a second how far it is, from one goroutine; optional
}

// Weights are how often people do what they need not do, from 0 to 1.
type Weights struct {
	Places  float64 // bookings with places
	Cancel  float64 // bookings that their user calls off
	Release float64 // bookings that their rider gives back
	Named   float64 // acceptances of a booking that the rider has picked from the list
	Rate    float64 // rides that are rated, by each side
}

// DefaultWeights is a day like any other.
func DefaultWeights() Weights {
	return Weights{Places: 0.7, Cancel: 0.05, Release: 0.05, Named: 0.3, Rate: 0.5}
}

// ErrConfig refuses a Config. Its sentence says what to change.
var ErrConfig = fault.New(fault.Invalid, "load", "This load cannot be made.")

// complete returns c with its defaults, or an error that joins an ErrConfig for each thing that is wrong.
func (c Config) complete() (Config, error) {
	defaults := map[*int]int{&c.Users: 100, &c.Riders: 50, &c.InFlight: 1000, &c.Watchers: 100}
	for field, value := range defaults {
		if *field == 0 {
			*field = value
		}
	}
	spans := map[*time.Duration]time.Duration{
		&c.Duration: 30 * time.Second, &c.Think: 500 * time.Millisecond, &c.Patience: 30 * time.Second, &c.Timeout: 15 * time.Second,
	}
	for field, value := range spans {
		if *field == 0 {
			*field = value
		}
	}
	if c.Rate == 0 {
		c.Rate = 10
	}
	if c.Weights == nil {
		w := DefaultWeights()
		c.Weights = &w
	}
	if c.Name == "" {
		c.Name = booking.NewID()[:10]
	}
	if c.Password == "" {
		c.Password = booking.NewID()
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() //nolint:gosec // chance, and no secret
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(Snapshot) {}
	}
	if c.HTTP == nil {
		// Of the usual two connections kept for each host all but two calls in flight would begin with a handshake.
		c.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.InFlight + c.Users + c.Riders, IdleConnTimeout: time.Minute}}
	}
	return c, c.check()
}

func (c Config) check() error {
	var wrong []error
	refuse := func(format string, args ...any) {
		wrong = append(wrong, ErrConfig.Saying(fmt.Sprintf(format, args...)))
	}
	for name, urls := range map[string][]string{"authsvc": c.Auth, "usersvc": c.User, "ridersvc": c.Rider} {
		if len(urls) == 0 {
			refuse("Say where %s is.", name)
		}
		for _, s := range urls {
			if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				refuse("The address of %s must look like http://host:3000; it is %q.", name, s)
			}
		}
	}
	for i, r := range c.Name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' || i >= 26 {
			refuse("The name of a run may have 26 of a to z, 0 to 9 and - at most; it is %q.", c.Name)
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

const maxRate = 100_000 // bookings a second

// A run is a load under way.
type run struct {
	Config
	began  time.Time
	stats  *stats
	users  []*user
	riders []*rider
	calls  sync.WaitGroup // what users have under way

	mu    sync.Mutex
	rides map[booking.ID]*user // whose each booking is, from before it is asked for
}

// Run makes the accounts, puts on the load for as long as c or ctx says, waits until everybody has come to the end of what they had begun, and reports.
//
// When ctx ends the load ends early, and there is still a Report. Errors: ErrConfig, and what keeps the accounts from being made, of kind
// fault.Unavailable where it may be otherwise later. What goes wrong under load is no error: it is in the Report.
func Run(ctx context.Context, c Config) (*Report, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	r := &run{Config: c, began: time.Now(), stats: newStats(c.Record), rides: make(map[booking.ID]*user)}
	defer c.HTTP.CloseIdleConnections()
	stop := r.report()
	defer stop()
	if err := r.people(ctx); err != nil {
		return nil, err
	}
	watching := r.watch(ctx)
	defer watching.close()

	// What is under way when the load ends is waited for, and that is bounded by everybody's patience.
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

// report tells the progress once a second until it is stopped.
func (r *run) report() (stop func()) {
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
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
	return sync.OnceFunc(func() { close(done); <-told })
}

// arrivals asks for bookings when they are due, until ctx ends.
func (r *run) arrivals(ctx, lasting context.Context, began time.Time) {
	slots := make(chan struct{}, r.InFlight)
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
		if due.Sub(began) >= r.Duration {
			<-ctx.Done()
		}
		if !pause(ctx, time.Until(due)) {
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

// owner returns whose a booking is, or nil where it is of nobody in this run.
func (r *run) owner(id booking.ID) *user {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rides[id]
}

// pause waits for d, and reports whether ctx lasts until then.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
