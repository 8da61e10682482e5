// Package ridersvc is the HTTP service for riders, who drive the bikes: they report positions, see
// open bookings, accept one and take the ride to its end.
//
// Make a service with [New], serve [Service.Routes] and run [Service.Run]. A booking.Desk handles
// its commands, and the ledger decides races. The service keeps nothing that another instance could
// not replace, so any number of instances may run.
package ridersvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// Config is what a Service needs. Announce and Roster are required.
type Config struct {
	bookings.Config
	// sends a status to the other instances
	Announce func(context.Context, fleet.Status) error
	Roster   Roster                 // which riders are offline
	Within   float64                // greatest distance to the pickup at arrival, in metres; 0: any
	Tell     func(feed.Offer) error // sends a rider an offer; nil: no offers are sent
}

// A Service answers the HTTP requests of riders. It is safe for concurrent use, and needs no
// closing.
type Service struct {
	c        Config
	board    bookings.TrustedBoard
	router   web.RouterConfig
	inFlight inFlight
	overdue  overdue
	offers   *offers
}

// New returns a Service, or an error that names every missing or invalid setting.
func New(c Config) (*Service, error) {
	var within error
	if !(c.Within >= 0) {
		within = fmt.Errorf("the distance Within must be 0 or more metres, not %g", c.Within)
	}
	err := errors.Join(c.Complete(), within, fault.Required("Announce", c.Announce != nil),
		fault.Required("Roster", c.Roster != nil))
	if err != nil {
		return nil, fmt.Errorf("ridersvc: %w", err)
	}
	offers, err := newOffers(c)
	if err != nil {
		return nil, err
	}
	return &Service{
		c: c, board: c.TrustedBoard(), router: c.Router("ridersvc", ledger.ErrOutcomeUnknown.Look), offers: offers,
		inFlight: inFlight{done: make(map[booking.ID]chan struct{})},
	}, nil
}

// Run sends riders the offers near them until ctx ends, and then returns nil. Every instance may
// run it.
func (s *Service) Run(ctx context.Context) error { return s.offers.run(ctx) }

// Routes returns all routes of the service. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.c.Streams, s.c.Verifier, s.router)
	only := func(sentence string, query ...string) chi.Router {
		return r.With(web.Require(s.c.Verifier, token.Rider, sentence), web.Query(query...))
	}
	// The original API, which ignores a query.
	r.With(web.Require(s.c.Verifier, token.Rider, "Only raiders can accept bookings")).
		Post("/accept-booking", web.Handle(s.accept))

	only("Only raiders can see open bookings", "lat", "lng", "radius", "limit", "cursor").
		Get("/open-bookings", web.Handle(s.open))
	only("Only raiders can list their bookings", "limit", "cursor", "state...", "since", "until").
		Get("/bookings", web.Handle(bookings.List(s.board.CatchUp, s.list, view)))
	only("Only raiders can see their bookings").Get("/bookings/{id}", web.Handle(s.show))

	if s.c.Story != nil {
		only("Only raiders can see their bookings").Get("/bookings/{id}/story", web.Handle(s.events().Story(s.c.Story)))
	}
	only("Only raiders can say that they have arrived").Post("/bookings/{id}/arrive", web.Handle(s.arrive))
	only("Only raiders can start rides").Post("/bookings/{id}/start", web.Handle(s.start))
	only("Only raiders can complete rides").Post("/bookings/{id}/complete", web.Handle(s.complete))
	only("Only raiders can give bookings back").Post("/bookings/{id}/release", web.Handle(s.release))
	only("Only raiders can rate their rides here").Post("/bookings/{id}/rate", web.Handle(s.rate))
	only("Only raiders can report a position").Put("/position", web.Handle(s.move))
	only("Only raiders can go online").Post("/online", web.Handle(s.online))
	only("Only raiders can go offline").Post("/offline", web.Handle(s.offline))
	only("Only raiders can see open bookings", "after").
		Get("/open-bookings/events", web.Handle(s.watchOpen(streams)))
	only("Only raiders can see their bookings", "after").
		Get("/bookings/{id}/events", web.Handle(s.events().Watch(streams)))
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
