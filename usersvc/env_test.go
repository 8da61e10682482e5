package usersvc_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

var _ bookings.Ledger = (*ledger.Ledger)(nil)

// People and things to test with. No test depends on which ids they have.
const (
	ulla  = tokentest.Ulla // a user
	uwe   = "uweuweuweuweuweuweuweuweuw"
	rita  = tokentest.Rita // a rider
	rolf  = "rolfrolfrolfrolfrolfrolfro"
	cron  = "croncroncroncroncroncroncr" // a service
	wrong = "nosuchbookingnosuchbooking"
)

// deadline is how long a booking waits in these tests.
const deadline = 2 * time.Minute

// tariff is what rides cost in these tests: 10 metres take a second.
var tariff = booking.Tariff{Currency: "EUR", Base: 100, PerKilometre: 50, PerMinute: 12, Minimum: 180, Speed: 36,
	Detour: 1, Longest: 100}

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
	desk    *booking.Desk
	fleet   *fleet.Map
	busy    map[booking.RiderID]bool
	routes  chi.Router
	handler http.Handler // the routes, whose answers are held against the OpenAPI document
	log     *wait.Journal
	unready error        // what the board's follower says
	ahead   atomic.Int64 // nanoseconds that it is ahead of the real clock
}

func (e *env) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

func newEnv(t testing.TB, options ...bookingtest.Option) *env {
	t.Helper()
	return newEnvWith(t, func(*usersvc.Config) {}, options...)
}

// newEnvWith is newEnv with a service that is made otherwise.
func newEnvWith(t testing.TB, edit func(*usersvc.Config), options ...bookingtest.Option) *env {
	t.Helper()
	e := &env{t: t, auth: tokentest.New(t), log: new(wait.Journal)}
	e.ledger = bookingtest.NewLedger(append(options, bookingtest.WithClock(e.now))...)
	desk, err := booking.NewDesk(e.ledger, booking.DeskOptions{Deadline: deadline, Tariff: &tariff, Codes: codes(t),
		Now: e.now})
	if err != nil {
		t.Fatal(err)
	}
	e.desk = desk
	e.busy = make(map[booking.RiderID]bool)
	if e.fleet, err = fleet.NewMap(fleet.Options{Now: e.now,
		Busy: func(id booking.RiderID) bool { return e.busy[id] }}); err != nil {
		t.Fatal(err)
	}
	config := usersvc.Config{Config: bookings.Config{
		Fleet: e.fleet,
		Desk:  desk, Board: e.ledger.Board, Ledger: e.ledger, Verifier: e.auth.Verifier(),
		Ready: func(context.Context) error { return e.unready },
		Now:   e.now,
		Log:   e.log.Logger(),
		// A ledger in memory has no messages. Package test/commands reads real ones.
		Story: func(context.Context, booking.ID) (story.Story, error) { return story.Story{}, nil },
	}}
	edit(&config)
	service, err := usersvc.New(config)
	if err != nil {
		t.Fatal(err)
	}
	e.routes = service.Routes()
	e.handler = webtest.Checked(t, e.routes, "openapi.yaml")
	return e
}

// user returns a good token of a user.
func (e *env) user(id string) string {
	return e.auth.Token(token.User, id, id[:4]+"@example.com")
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

// later fails the test unless w is a refusal that asks to come back.
func later(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer %d %q with Retry-After %q, want 503 and when to come back", w.Code, w.Body,
			w.Header().Get("Retry-After"))
	}
}

// book books a ride for a user over HTTP and returns its id.
func (e *env) book(user string) booking.ID {
	e.t.Helper()
	id, _ := webtest.Object(e.t, e.call("POST", "/book", e.user(user), "{}"))["booking_id"].(string)
	return booking.ID(id)
}

// command returns a new command of an actor.
func command(role booking.Role, id string) booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: id, Role: role}}
}

// bring takes an open booking of ulla's to a state, by an actor who may do so.
func (e *env) bring(id booking.ID, to booking.State) {
	e.t.Helper()
	ctx := e.t.Context()
	step := func(_ booking.Booking, err error) {
		e.t.Helper()
		if err != nil {
			e.t.Fatalf("bring the booking to %s: %v", to, err)
		}
	}
	rider := rita
	if e.ledger.Board.Busy(booking.RiderID(rita)) { // with another ride: then it is somebody else
		rider = booking.NewID()
	}
	rides := []booking.State{booking.StateAccepted, booking.StateArrived, booking.StateStarted, booking.StateCompleted}
	far := slices.Index(rides, to)
	for i := 0; i <= far; i++ {
		switch rides[i] {
		case booking.StateAccepted:
			step(e.desk.Accept(ctx, command(booking.Rider, rider), id))
		case booking.StateArrived:
			step(e.desk.Arrive(ctx, command(booking.Rider, rider), id))
		case booking.StateStarted:
			step(e.desk.Start(ctx, command(booking.Rider, rider), id))
		case booking.StateCompleted:
			step(e.desk.Complete(ctx, command(booking.Rider, rider), id))
		}
	}
	switch to {
	case booking.StateCancelled:
		step(e.desk.Cancel(ctx, command(booking.Service, cron), id, ""))
	case booking.StateExpired:
		e.ahead.Add(int64(2 * deadline))
		step(e.desk.Expire(ctx, command(booking.Service, cron), id))
	}
	if b, err := e.desk.Show(ctx, id); err != nil || b.State != to {
		e.t.Fatalf("the booking is %q, not %q: %v", b.State, to, err)
	}
}
