package ridersvc_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

var _ bookings.Ledger = (*ledger.Ledger)(nil)

// People and things to test with. No test depends on which ids they have.
const (
	ulla  = tokentest.Ulla // a user
	rita  = tokentest.Rita // a rider
	rolf  = "rolfrolfrolfrolfrolfrolfro"
	cron  = "croncroncroncroncroncroncr" // a service
	wrong = "nosuchbookingnosuchbooking"
)

// deadline is how long a booking waits in these tests.
const deadline = 2 * time.Minute

// tariff is what rides cost in these tests: 10 metres take a second.
var tariff = booking.Tariff{Currency: "EUR", Base: 100, PerKilometre: 50, PerMinute: 12, Minimum: 180, Speed: 36,
	Detour: 1, Longest: 1000}

// codes are the start codes of all services.
func codes(t testing.TB) *booking.StartCodes {
	t.Helper()
	c, err := booking.NewStartCodes(bytes.Repeat([]byte{7}, booking.StartCodeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An env is a Service over a log in memory.
type env struct {
	t       testing.TB
	auth    *tokentest.Authority
	ledger  *bookingtest.Ledger
	desk    *booking.Desk // of another process
	own     *booking.Desk // of the service
	routes  chi.Router
	handler http.Handler // the routes, whose answers are held against the OpenAPI document
	log     *wait.Journal
	unready error // what the board's follower says
	fleet   *fleet.Map
	told    []fleet.Status // what the other instances were told
	deaf    error          // what telling them says
	ahead   atomic.Int64   // nanoseconds that it is ahead of the real clock
	service *ridersvc.Service
	offers  chan feed.Offer  // what riders are told
	telling func(feed.Offer) // is called before that, if set
	roster  *roster
}

func (e *env) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

func newEnv(t testing.TB, options ...bookingtest.Option) *env {
	t.Helper()
	e := &env{t: t, auth: tokentest.New(t), log: new(wait.Journal), offers: make(chan feed.Offer, 1024),
		roster: new(roster)}
	e.ledger = bookingtest.NewLedger(append(options, bookingtest.WithClock(e.now))...)
	desk := func(log booking.Log) *booking.Desk {
		d, err := booking.NewDesk(log, booking.DeskOptions{Deadline: deadline, Tariff: &tariff, Codes: codes(t),
			Now: e.now})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	e.desk = desk(e.ledger.Elsewhere())
	e.serve(desk(e.ledger))
	return e
}

// serve starts an instance, which knows nothing of riders, in the place of the one before.
func (e *env) serve(desk *booking.Desk) {
	t := e.t
	t.Helper()
	var err error
	if e.fleet, err = fleet.NewMap(fleet.Options{Now: e.now, Busy: e.ledger.Board.Busy}); err != nil {
		t.Fatal(err)
	}
	service, err := ridersvc.New(ridersvc.Config{
		Config: bookings.Config{
			Desk: desk, Board: e.ledger.Board, Ledger: e.ledger, Verifier: e.auth.Verifier(), Fleet: e.fleet,
			Ready: func(context.Context) error { return e.unready }, Now: e.now, Log: e.log.Logger(),
			// A ledger in memory has no messages. Package test/commands reads real ones.
			Story: func(context.Context, booking.ID) (story.Story, error) { return story.Story{}, nil },
		},
		Announce: func(_ context.Context, s fleet.Status) error {
			e.told = append(e.told, s)
			return e.deaf
		},
		Roster: e.roster, Within: 500,
		Tell: func(n feed.Offer) error {
			if e.telling != nil {
				e.telling(n)
			}
			e.offers <- n
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.service, e.routes, e.own = service, service.Routes(), desk
	e.handler = webtest.Checked(t, e.routes, "openapi.yaml")
}

// A roster is one in memory.
type roster struct {
	away    error // what it says
	offline map[booking.RiderID]time.Time
}

func (r *roster) Say(_ context.Context, rider booking.RiderID, online bool, at time.Time) error {
	switch {
	case r.away != nil:
	case online:
		delete(r.offline, rider)
	case r.offline == nil:
		r.offline = map[booking.RiderID]time.Time{rider: at}
	default:
		r.offline[rider] = at
	}
	return r.away
}

func (r *roster) Said(_ context.Context, rider booking.RiderID) (bool, time.Time, error) {
	at, offline := r.offline[rider]
	return !offline, at, r.away
}

// rider returns a good token of a rider.
func (e *env) rider(id string) string {
	return e.auth.Token(token.Rider, id, id[:4]+"@example.com")
}

// call makes one request; headers are names and values in turn.
func (e *env) call(method, target, bearer, body string, headers ...string) *httptest.ResponseRecorder {
	e.t.Helper()
	r := webtest.Request(method, target, bearer, body, headers...)
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, r)
	return w
}

// accept is a call of /accept-booking.
func (e *env) accept(rider, body string) *httptest.ResponseRecorder {
	e.t.Helper()
	return e.call("POST", "/accept-booking", e.rider(rider), body)
}

func named(id booking.ID) string { return `{"booking_id":"` + string(id) + `"}` }

// later fails the test unless w is that refusal and asks to come back.
func later(t testing.TB, w *httptest.ResponseRecorder, sentence string) {
	t.Helper()
	webtest.Refused(t, w, http.StatusServiceUnavailable, sentence)
	if w.Header().Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

// won fails the test unless w says that the rider has accepted that booking.
func won(t testing.TB, w *httptest.ResponseRecorder, rider string, id booking.ID) {
	t.Helper()
	v := webtest.Object(t, w)
	if v["success"] != true || v["message"] != "Booking accepted" || v["raider"] != rider[:4]+"@example.com" ||
		v["booking_id"] != string(id) || v["state"] != "accepted" {
		t.Errorf("answer %v, want that %s has accepted %s", v, rider, id)
	}
}

// book books a ride for ulla, in another process.
func (e *env) book() booking.ID {
	e.t.Helper()
	return e.bookTrip(booking.Trip{})
}

func (e *env) bookTrip(trip booking.Trip) booking.ID {
	e.t.Helper()
	id := booking.ID(booking.NewID())
	if _, err := e.desk.Book(e.t.Context(), command(booking.User, ulla), id, trip); err != nil {
		e.t.Fatal(err)
	}
	return id
}

// command returns a new command of an actor.
func command(role booking.Role, id string) booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: id, Role: role}}
}

// do fails the test if a step in another process did not work.
func (e *env) do(_ booking.Booking, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// finish rides a booking that a rider has accepted to its end, in another process: then the rider
// is free again.
func (e *env) finish(rider string, id booking.ID) {
	e.t.Helper()
	for _, step := range []func(context.Context, booking.Command, booking.ID) (booking.Booking, error){e.desk.Arrive,
		e.desk.Start, e.desk.Complete} {
		e.do(step(e.t.Context(), command(booking.Rider, rider), id))
	}
}

// faultCode returns the stable code of a refusal.
func faultCode(err error) string { return fault.From(err).Code }

// unknown is what a rider is told of an outcome that is not known, without an Idempotency-Key.
var unknown = ledger.ErrOutcomeUnknown.Message + " " + ledger.ErrOutcomeUnknown.Look
