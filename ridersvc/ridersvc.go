// Package ridersvc is the service of riders, who drive the bikes: they say where they are, see the open bookings and accept one.
//
// Make one with [New] and serve [Service.Routes]. It decides nothing by itself: commands go to a booking.Desk, and the ledger
// says who won. It keeps nothing between requests, so any number of instances may run.
package ridersvc

import (
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
	// LastSequence returns the highest sequence there is, from the ledger's leader.
	LastSequence(ctx context.Context) (uint64, error)
}

// Config is what a Service needs. Desk, Board, Ledger, Ready, Verifier, Fleet, Announce and Roster
// are required.
type Config struct {
	Desk     *booking.Desk
	Board    *board.Board                // of open bookings; somebody else feeds it
	Ready    func(context.Context) error // nil once the board can be trusted
	Ledger   Ledger
	Verifier web.TokenVerifier

	Fleet    *fleet.Map                                // where riders are
	Announce func(context.Context, fleet.Status) error // tells the other instances
	Roster   Roster                                    // who has said to be offline
	Within   float64                                   // how near to the pickup a rider must be to arrive, in metres; 0: anywhere
	Radius   float64                                   // how far a rider looks for bookings, in metres, unless it says so itself; default: DefaultRadius
	Tell     func(bus.OfferNotice) error               // tells a rider what is open near it; nil: nobody is told

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is believed
	Rate           web.Rate       // how often one network may call this instance; zero: as often as it likes

	Streams web.StreamLimits // default: those of package web

	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics that nobody sees
	Now        func() time.Time      // default: time.Now
	NewID      func() string         // default: booking.NewID
}

// How far a rider looks for bookings, in metres.
const (
	DefaultRadius = 3_000
	MaxRadius     = 50_000
)

// A Service answers the HTTP calls of riders. It is safe for concurrent use and holds nothing that must be closed.
type Service struct {
	desk     *booking.Desk
	board    *board.Board
	ready    func(context.Context) error
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
	attempts attempts
	lapses   lapses
	offers   *offers
}

// New returns a Service, or an error that names every setting that is missing.
func New(c Config) (*Service, error) {
	var missing []error
	require := func(name string, given bool) {
		if !given {
			missing = append(missing, errors.New("ridersvc: "+name+" is required"))
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
	if c.Radius == 0 {
		c.Radius = DefaultRadius
	}
	if !(c.Radius >= 1 && c.Radius <= MaxRadius) {
		missing = append(missing, fmt.Errorf("ridersvc: Radius must be from 1 to %d metres, not %g", MaxRadius, c.Radius))
	}
	if !(c.Within >= 0) {
		missing = append(missing, fmt.Errorf("ridersvc: Within must be 0 or more metres, not %g", c.Within))
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
	offers, err := newOffers(c)
	if err != nil {
		return nil, err
	}
	return &Service{
		offers: offers,
		desk:   c.Desk, board: c.Board, ready: c.Ready, ledger: c.Ledger, verifier: c.Verifier, now: c.Now, newID: c.NewID,
		fleet: c.Fleet, announce: c.Announce, roster: c.Roster, within: c.Within, radius: c.Radius,
		streams: c.Streams,
		router: web.RouterConfig{
			Service: "ridersvc", Log: c.Log, Registerer: c.Registerer, Now: c.Now, TrustedProxies: c.TrustedProxies, Rate: c.Rate,
			Look: bus.ErrOutcomeUnknown.Look,
		},
		attempts: attempts{under: make(map[booking.ID]chan struct{})},
	}, nil
}

// Run tells riders over NATS what is open near them, until ctx ends, and then returns nil. Any number of instances may do so.
func (s *Service) Run(ctx context.Context) error { return s.offers.run(ctx) }

// Routes is the table of contents. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.streams, s.verifier, s.router)
	only := func(sentence string) chi.Router { return r.With(web.Require(s.verifier, token.Rider, sentence)) }

	only("Only raiders can accept bookings").Post("/accept-booking", web.Handle(s.accept))
	only("Only raiders can see open bookings").Get("/open-bookings", web.Handle(s.open))
	only("Only raiders can list their bookings").Get("/bookings", web.Handle(bookingweb.List(s.catchUp, s.list, rideOf)))
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
	only("Only raiders can see their bookings").Get("/bookings/{id}/events", web.Handle(s.story().Watch(streams)))
	return r
}

// The refusals of this service; those of package booking come besides.
var (
	ErrNoneOpen   = fault.New(fault.NotFound, "no_open_bookings", "No open bookings")
	ErrCatchingUp = fault.New(fault.Unavailable, "catching_up",
		"The list of bookings is still being read. Please try again in a moment.").After(time.Second)
	ErrWhereabouts = fault.New(fault.Conflict, "position_unknown",
		"It is not known where you are. Report your position with PUT /position, and then say that you have arrived.")
	ErrNotThere = fault.New(fault.Conflict, "not_at_pickup",
		"You are too far from the pickup. Report your position with PUT /position when you are there, and then say that you have arrived.")
	ErrStartCode = fault.New(fault.Invalid, "invalid_start_code",
		"A start code is four digits, which the passenger can see: {\"start_code\":\"0042\"}.")
	ErrCrowded = fault.New(fault.Unavailable, "crowded",
		"Very many raiders are accepting bookings right now. Please try again in a moment.").After(time.Second)
)
