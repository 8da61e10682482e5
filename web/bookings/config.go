package bookings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/web"
)

// A Ledger is the part of the ledger that the services read.
type Ledger interface {
	// Appended returns the highest sequence that this process has appended.
	Appended() uint64
	// LastSequence returns the highest sequence, as the ledger's leader reports it.
	LastSequence(ctx context.Context) (uint64, error)
}

// Config is what usersvc and ridersvc both need. Desk, Board, Ready, Ledger, Verifier and Fleet are
// required.
type Config struct {
	Desk     *booking.Desk
	Board    *board.Board                // the caller feeds it
	Ready    func(context.Context) error // returns nil once the board can be trusted
	Ledger   Ledger
	Verifier web.TokenVerifier
	Fleet    *fleet.Map // where riders are; the caller feeds it
	Radius   float64    // usual radius of a search, in metres; default: DefaultRadius
	// Story reads the story of a booking; see story.Read. nil: there is no call for it.
	Story func(context.Context, booking.ID) (story.Story, error)

	Tracer         *tracing.Tracer  // nil: no spans are made
	TrustedProxies []netip.Prefix   // whose X-Forwarded-For or Forwarded is trusted
	Rate           web.Rate         // requests of one network to this instance; zero: no limit
	Origins        []string         // whose pages may read answers
	Streams        web.StreamLimits // default: those of package web

	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics are not registered
	Now        func() time.Time      // default: time.Now
	NewID      func() string         // default: booking.NewID
}

// Complete sets the defaults. Its error names every missing or invalid setting.
func (c *Config) Complete() error {
	c.Log, c.Radius = cmp.Or(c.Log, slog.New(slog.DiscardHandler)), cmp.Or(c.Radius, DefaultRadius)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = booking.NewID
	}
	var radius error
	if !(c.Radius >= MinRadius && c.Radius <= MaxRadius) { // also refuses NaN
		radius = fmt.Errorf("the search radius must be from %d to %d metres, not %g", MinRadius, MaxRadius, c.Radius)
	}
	return errors.Join(radius, fault.Required("Desk", c.Desk != nil), fault.Required("Board", c.Board != nil),
		fault.Required("Ready", c.Ready != nil), fault.Required("Ledger", c.Ledger != nil),
		fault.Required("Verifier", c.Verifier != nil), fault.Required("Fleet", c.Fleet != nil))
}

// TrustedBoard returns the board for requests.
func (c *Config) TrustedBoard() TrustedBoard {
	return TrustedBoard{Board: c.Board, Ready: c.Ready, Appended: c.Ledger.Appended}
}

// Router returns the settings of the router of a service. look is as in web.RouterConfig.
func (c *Config) Router(service, look string) web.RouterConfig {
	return web.RouterConfig{
		Service: service, Look: look, Log: c.Log, Registerer: c.Registerer, Tracer: c.Tracer, Now: c.Now,
		TrustedProxies: c.TrustedProxies, Rate: c.Rate, Origins: c.Origins,
	}
}
