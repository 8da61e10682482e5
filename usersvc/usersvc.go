// Package usersvc is the service of users, the passengers: they book a ride, watch it and cancel it.
//
// Make one with [New] and serve [Service.Routes]. It decides nothing by itself: commands go to a booking.Desk, single bookings
// are read from the ledger, lists from a board.Board. It keeps nothing between requests, so any number of instances may run.
package usersvc

import (
	"context"
	_ "embed" // for openapi.yaml
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// OpenAPI is the description of this service's HTTP API. A test holds it against [Service.Routes].
//
//go:embed openapi.yaml
var OpenAPI []byte

// A Ledger is what this service asks of the ledger besides commands.
type Ledger interface {
	// Appended returns the highest sequence that this process has appended.
	Appended() uint64
}

// Config is what a Service needs. Desk, Board, Ledger, Ready, Verifier and Fleet are required.
type Config struct {
	Desk     *booking.Desk
	Board    *board.Board                // for lists; somebody else feeds it
	Ready    func(context.Context) error // nil once the board can be trusted
	Ledger   Ledger
	Verifier web.TokenVerifier

	Fleet  *fleet.Map // where riders are; somebody else feeds it
	Radius float64    // how far riders are looked for, in metres, unless a user says so; default: DefaultRadius

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is believed
	Rate           web.Rate       // how often one network may call this instance; zero: as often as it likes
	BookRate       web.Rate       // how often one user may book at this instance

	Streams   web.StreamLimits // default: those of package web
	Positions Positions        // where riders are; nil: nobody is told

	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics that nobody sees
	Now        func() time.Time      // default: time.Now
	NewID      func() string         // default: booking.NewID
}

// A Service answers the HTTP calls of users. It is safe for concurrent use and holds nothing that must be closed.
type Service struct {
	desk     *booking.Desk
	board    *board.Board
	ready    func(context.Context) error
	ledger   Ledger
	verifier web.TokenVerifier
	fleet    *fleet.Map
	radius   float64
	now      func() time.Time
	newID    func() string
	bookRate web.Rate
	router   web.RouterConfig

	streams   web.StreamLimits
	positions Positions
}

// New returns a Service, or an error that names every setting that is missing.
func New(c Config) (*Service, error) {
	var missing []error
	require := func(name string, given bool) {
		if !given {
			missing = append(missing, errors.New("usersvc: "+name+" is required"))
		}
	}
	require("Desk", c.Desk != nil)
	require("Board", c.Board != nil)
	require("Ready", c.Ready != nil)
	require("Ledger", c.Ledger != nil)
	require("Verifier", c.Verifier != nil)
	require("Fleet", c.Fleet != nil)
	radius, err := checkRadius(c.Radius)
	if err != nil {
		missing = append(missing, err)
	}
	if missing != nil {
		return nil, errors.Join(missing...)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = booking.NewID
	}
	return &Service{
		desk: c.Desk, board: c.Board, ready: c.Ready, ledger: c.Ledger, verifier: c.Verifier, newID: c.NewID, bookRate: c.BookRate,
		fleet: c.Fleet, radius: radius,
		now: c.Now, streams: c.Streams, positions: c.Positions,
		router: web.RouterConfig{
			Service: "usersvc", Log: c.Log, Registerer: c.Registerer, Now: c.Now, TrustedProxies: c.TrustedProxies, Rate: c.Rate,
			Look: bus.ErrOutcomeUnknown.Look,
		},
	}, nil
}

// Routes is the table of contents. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.streams, s.verifier, s.router)
	only := func(sentence string) chi.Router { return r.With(web.Require(s.verifier, token.User, sentence)) }

	only("Only users can book rides").With(s.bookRate.ByCaller()).Post("/book", web.Handle(s.book))
	only("Only users can ask for quotes").Get("/quote", web.Handle(s.quote))
	only("Only users can ask for raiders nearby").Get("/availability", web.Handle(s.availability))
	only("Only users can list their bookings").Get("/bookings", web.Handle(bookingweb.List(s.catchUp, s.list, s.rideOf)))
	only("Only users can see their bookings").Get("/bookings/{id}", web.Handle(s.show))
	only("Only users can see their bookings").Get("/bookings/{id}/events", web.Handle(s.story().Watch(streams)))
	only("Only users can cancel bookings").Post("/bookings/{id}/cancel", web.Handle(s.cancel))
	only("Only users can rate their rides here").Post("/bookings/{id}/rate", web.Handle(s.rate))
	return r
}

// ErrCatchingUp is what a list is answered with as long as the board is not what it must be. Every other refusal is package
// booking's.
var ErrCatchingUp = fault.New(fault.Unavailable, "catching_up",
	"The list of bookings is still being read. Please try again in a moment.").After(time.Second)
