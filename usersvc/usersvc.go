// Package usersvc is the HTTP service for users, the passengers: they book a ride, watch it and
// cancel it.
//
// Make a service with [New] and serve [Service.Routes]. A booking.Desk handles its commands. It
// reads single bookings from the ledger and lists from a board.Board. It keeps no state between
// requests, so any number of instances may run.
package usersvc

import (
	"fmt"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// Config is what a Service needs.
type Config struct {
	bookings.Config
	BookRate         web.Rate // bookings of one user at this instance; zero: no limit
	AvailabilityRate web.Rate // and their questions who is near
	OpenBookings     int      // of one user at a time; 0: no limit
}

// A Service answers the HTTP requests of users. It is safe for concurrent use, and needs no
// closing.
type Service struct {
	c      Config
	board  bookings.TrustedBoard
	router web.RouterConfig
	open   openBookings
}

// New returns a Service, or an error that names every missing or invalid setting.
func New(c Config) (*Service, error) {
	if err := c.Complete(); err != nil {
		return nil, fmt.Errorf("usersvc: %w", err)
	}
	return &Service{
		c: c, board: c.TrustedBoard(), router: c.Router("usersvc", ledger.ErrOutcomeUnknown.Look),
		open: openBookings{
			limit: c.OpenBookings, board: c.Board, now: c.Now, unseen: make(map[booking.UserID][]booking.ID),
		},
	}, nil
}

// Routes returns all routes of the service. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	streams := web.NewStreams(s.c.Streams, s.c.Verifier, s.router)
	only := func(sentence string, query ...string) chi.Router {
		return r.With(web.Require(s.c.Verifier, token.User, sentence), web.Query(query...))
	}
	// The original API, which ignores a query.
	r.With(web.Require(s.c.Verifier, token.User, "Only users can book rides"), s.c.BookRate.ByCaller()).
		Post("/book", web.Handle(s.book))

	only("Only users can ask for quotes", "from", "to").Get("/quote", web.Handle(s.quote))
	only("Only users can ask for raiders nearby", "lat", "lng", "radius").With(s.c.AvailabilityRate.ByCaller()).
		Get("/availability", web.Handle(s.availability))
	only("Only users can list their bookings", "limit", "cursor", "state...", "since", "until").
		Get("/bookings", web.Handle(bookings.List(s.board.CatchUp, s.list, s.view)))
	only("Only users can see their bookings").Get("/bookings/{id}", web.Handle(s.show))
	only("Only users can see their bookings", "after").
		Get("/bookings/{id}/events", web.Handle(s.events().Watch(streams)))
	only("Only users can cancel bookings").Post("/bookings/{id}/cancel", web.Handle(s.cancel))
	if s.c.Story != nil {
		only("Only users can see their bookings").Get("/bookings/{id}/story", web.Handle(s.events().Story(s.c.Story)))
	}
	only("Only users can rate their rides here").Post("/bookings/{id}/rate", web.Handle(s.rate))
	return r
}
