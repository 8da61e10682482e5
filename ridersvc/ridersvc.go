// Package ridersvc is the HTTP service for riders, who drive the bikes: they report positions, see
// open bookings, accept one and take the ride to its end.
//
// Make a service with [New], serve [Service.Routes] and run [Service.Run]. A booking.Desk handles
// its commands, and the ledger decides races. The service keeps nothing that another instance could
// not replace, so any number of instances may run.
package ridersvc

import (
	"cmp"
	"context"
	_ "embed" // for openapi.yaml
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// OpenAPI describes the HTTP API of this service. A test compares it with [Service.Routes].
//
//go:embed openapi.yaml
var OpenAPI []byte

// A Ledger is the part of the ledger that this service reads.
type Ledger interface {
	// Appended returns the highest sequence that this process has appended.
	Appended() uint64
	// LastSequence returns the highest sequence, as the ledger's leader reports it.
	LastSequence(ctx context.Context) (uint64, error)
}

// Config is what a Service needs. Desk, Board, Ready, Ledger, Verifier, Fleet, Announce and Roster
// are required.
type Config struct {
	Desk     *booking.Desk
	Board    *board.Board                // the caller feeds it
	Ready    func(context.Context) error // returns nil once the board can be trusted
	Ledger   Ledger
	Verifier web.TokenVerifier

	Fleet    *fleet.Map                                // where riders are
	Announce func(context.Context, fleet.Status) error // sends a status to the other instances
	Roster   Roster                                    // which riders are offline
	// greatest distance to the pickup at arrival, in metres; 0: any
	Within float64
	// default search radius, in metres; default: bookings.DefaultRadius
	Radius float64
	// sends a rider an offer; nil: no offers are sent
	Tell func(feed.Offer) error

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is trusted
	Rate           web.Rate       // requests of one network to this instance; zero: no limit

	Streams web.StreamLimits // default: those of package web

	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics are not registered
	Now        func() time.Time      // default: time.Now
	NewID      func() string         // default: booking.NewID
}

// A Service answers the HTTP requests of riders. It is safe for concurrent use, and needs no
// closing.
type Service struct {
	desk     *booking.Desk
	board    bookings.TrustedBoard
	ledger   Ledger
	verifier web.TokenVerifier
	fleet    *fleet.Map
	announce func(context.Context, fleet.Status) error
	roster   Roster
	within   float64
	radius   float64
	now      func() time.Time
	newID    func() string
	router   web.RouterConfig
	streams  web.StreamLimits
	inFlight inFlight
	overdue  overdue
	offers   *offers
}

// New returns a Service, or an error that names every missing or invalid setting.
func New(c Config) (*Service, error) {
	var faults []error
	require := func(name string, given bool) {
		if !given {
			faults = append(faults, errors.New("ridersvc: "+name+" is required"))
		}
	}
	require("Desk", c.Desk != nil)
	require("Board", c.Board != nil)
	require("Ready", c.Ready != nil)
	require("Ledger", c.Ledger != nil)
	require("Verifier", c.Verifier != nil)
	require("Fleet", c.Fleet != nil)
	require("Announce", c.Announce != nil)
	require("Roster", c.Roster != nil)
	var err error
	if c.Radius, err = bookings.SearchRadius(c.Radius); err != nil {
		faults = append(faults, fmt.Errorf("ridersvc: %w", err))
	}
	if !(c.Within >= 0) {
		faults = append(faults, fmt.Errorf("ridersvc: Within must be 0 or more metres, not %g", c.Within))
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = booking.NewID
	}
	offers, err := newOffers(c)
	if err != nil {
		return nil, err
	}
	return &Service{
		desk:   c.Desk,
		board:  bookings.TrustedBoard{Board: c.Board, Ready: c.Ready, Appended: c.Ledger.Appended},
		ledger: c.Ledger, verifier: c.Verifier, now: c.Now, newID: c.NewID,
		fleet: c.Fleet, announce: c.Announce, roster: c.Roster, within: c.Within, radius: c.Radius,
		streams: c.Streams, offers: offers,
		router: web.RouterConfig{
			Service: "ridersvc", Log: c.Log, Registerer: c.Registerer, Now: c.Now,
			TrustedProxies: c.TrustedProxies, Rate: c.Rate,
			Look: ledger.ErrOutcomeUnknown.Look,
		},
		inFlight: inFlight{done: make(map[booking.ID]chan struct{})},
	}, nil
}

// Run sends riders the offers near them until ctx ends, and then returns nil. Every instance may
// run it.
func (s *Service) Run(ctx context.Context) error { return s.offers.run(ctx) }

// Routes returns all routes of the service. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.streams, s.verifier, s.router)
	only := func(sentence string) chi.Router { return r.With(web.Require(s.verifier, token.Rider, sentence)) }

	only("Only raiders can accept bookings").Post("/accept-booking", web.Handle(s.accept))
	only("Only raiders can see open bookings").Get("/open-bookings", web.Handle(s.open))
	only("Only raiders can list their bookings").Get("/bookings",
		web.Handle(bookings.List(s.board.CatchUp, s.list, view)))
	only("Only raiders can see their bookings").Get("/bookings/{id}", web.Handle(s.show))

	only("Only raiders can say that they have arrived").Post("/bookings/{id}/arrive", web.Handle(s.arrive))
	only("Only raiders can start rides").Post("/bookings/{id}/start", web.Handle(s.start))
	only("Only raiders can complete rides").Post("/bookings/{id}/complete", web.Handle(s.complete))
	only("Only raiders can give bookings back").Post("/bookings/{id}/release", web.Handle(s.release))
	only("Only raiders can rate their rides here").Post("/bookings/{id}/rate", web.Handle(s.rate))
	only("Only raiders can report a position").Put("/position", web.Handle(s.move))
	only("Only raiders can go online").Post("/online", web.Handle(s.online))
	only("Only raiders can go offline").Post("/offline", web.Handle(s.offline))
	only("Only raiders can see open bookings").Get("/open-bookings/events", web.Handle(s.watchOpen(streams)))
	only("Only raiders can see their bookings").Get("/bookings/{id}/events", web.Handle(s.events().Watch(streams)))
	return r
}

// The refusals of this service, in addition to those of packages booking and web/bookings.
var (
	ErrNoneOpen    = fault.New(fault.NotFound, "no_open_bookings", "No open bookings")
	ErrWhereabouts = fault.New(fault.Conflict, "position_unknown",
		"Your position is unknown. Report it with PUT /position and try again.")
	ErrNotThere = fault.New(fault.Conflict, "not_at_pickup",
		"You are too far from the pickup. When you are there, report your position with PUT /position and try again.")
	ErrStartCode = fault.New(fault.Invalid, "invalid_start_code",
		"A start code is four digits, which the passenger can see: {\"start_code\":\"0042\"}.")
	ErrCrowded = fault.New(fault.Unavailable, "crowded",
		"Too many raiders are accepting bookings at once. Please try again in a moment.").After(time.Second)
)
