// Package usersvc is the HTTP service for users, the passengers: they book a ride, watch it and
// cancel it.
//
// Make a service with [New] and serve [Service.Routes]. A booking.Desk handles its commands. It
// reads single bookings from the ledger and lists from a board.Board. It keeps no state between
// requests, so any number of instances may run.
package usersvc

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
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
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
}

// Config is what a Service needs. Desk, Board, Ledger, Ready, Verifier and Fleet are required.
type Config struct {
	Desk     *booking.Desk
	Board    *board.Board                // for lists; the caller feeds it
	Ready    func(context.Context) error // returns nil once the board can be trusted
	Ledger   Ledger
	Verifier web.TokenVerifier

	Fleet *fleet.Map // where riders are; the caller feeds it
	// default search radius of /availability, in metres; default: bookings.DefaultRadius
	Radius float64

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is trusted
	Rate           web.Rate       // requests of one network to this instance; zero: no limit
	BookRate       web.Rate       // bookings of one user at this instance; zero: no limit

	Streams web.StreamLimits // default: those of package web

	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics are not registered
	Now        func() time.Time      // default: time.Now
	NewID      func() string         // default: booking.NewID
}

// A Service answers the HTTP requests of users. It is safe for concurrent use, and needs no
// closing.
type Service struct {
	desk     *booking.Desk
	board    bookings.TrustedBoard
	verifier web.TokenVerifier
	fleet    *fleet.Map
	radius   float64
	now      func() time.Time
	newID    func() string
	bookRate web.Rate
	router   web.RouterConfig

	streams web.StreamLimits
}

// New returns a Service, or an error that names every missing or invalid setting.
func New(c Config) (*Service, error) {
	var faults []error
	require := func(name string, given bool) {
		if !given {
			faults = append(faults, errors.New("usersvc: "+name+" is required"))
		}
	}
	require("Desk", c.Desk != nil)
	require("Board", c.Board != nil)
	require("Ready", c.Ready != nil)
	require("Ledger", c.Ledger != nil)
	require("Verifier", c.Verifier != nil)
	require("Fleet", c.Fleet != nil)
	radius, err := bookings.SearchRadius(c.Radius)
	if err != nil {
		faults = append(faults, fmt.Errorf("usersvc: %w", err))
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
	return &Service{
		desk:     c.Desk,
		board:    bookings.TrustedBoard{Board: c.Board, Ready: c.Ready, Appended: c.Ledger.Appended},
		verifier: c.Verifier, newID: c.NewID, bookRate: c.BookRate,
		fleet: c.Fleet, radius: radius,
		now: c.Now, streams: c.Streams,
		router: web.RouterConfig{
			Service: "usersvc", Log: c.Log, Registerer: c.Registerer, Now: c.Now,
			TrustedProxies: c.TrustedProxies, Rate: c.Rate,
			Look: ledger.ErrOutcomeUnknown.Look,
		},
	}, nil
}

// Routes returns all routes of the service. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.streams, s.verifier, s.router)
	only := func(sentence string) chi.Router { return r.With(web.Require(s.verifier, token.User, sentence)) }

	only("Only users can book rides").With(s.bookRate.ByCaller()).Post("/book", web.Handle(s.book))
	only("Only users can ask for quotes").Get("/quote", web.Handle(s.quote))
	only("Only users can ask for raiders nearby").Get("/availability", web.Handle(s.availability))
	only("Only users can list their bookings").Get("/bookings",
		web.Handle(bookings.List(s.board.CatchUp, s.list, s.view)))
	only("Only users can see their bookings").Get("/bookings/{id}", web.Handle(s.show))
	only("Only users can see their bookings").Get("/bookings/{id}/events", web.Handle(s.events().Watch(streams)))
	only("Only users can cancel bookings").Post("/bookings/{id}/cancel", web.Handle(s.cancel))
	only("Only users can rate their rides here").Post("/bookings/{id}/rate", web.Handle(s.rate))
	return r
}
