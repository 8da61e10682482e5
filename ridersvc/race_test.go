package ridersvc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

// A town is a NATS with two instances of the service, each with a connection, a ledger and a board
// of its own, serving HTTP.
type town struct {
	auth   *tokentest.Authority
	urls   [2]string
	fleets []*fleet.Map // of the two
	client *http.Client
	desk   *booking.Desk // of the users' service
	user   string        // ulla's token
	proof  string        // the event token in it
	riders []string      // ids
	tokens []string      // theirs
}

func newTown(t testing.TB, e *bustest.Env, riders int) *town {
	t.Helper()
	x := &town{auth: tokentest.New(t), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: riders}}}
	x.user = x.auth.Token(token.User, ulla, "john@example.com")
	x.proof = tokentest.EventToken(t, x.user)
	for range riders {
		id := booking.NewID()
		x.riders = append(x.riders, id)
		x.tokens = append(x.tokens, x.auth.Token(token.Rider, id, "rider@example.com"))
	}
	_, x.desk = x.open(t, e, "/usersvc")
	for i := range x.urls {
		x.urls[i] = x.serve(t, e)
	}
	t.Cleanup(x.client.CloseIdleConnections)
	return x
}

// connect connects as one of our services, where NATS knows who that is.
func connect(t testing.TB, e *bustest.Env, source string) *bus.Conn {
	t.Helper()
	if e.Keys == "" {
		return e.Connect(t)
	}
	return e.ConnectAs(t, strings.TrimPrefix(source, "/"))
}

func (x *town) open(t testing.TB, e *bustest.Env, source string) (*ledger.Ledger, *booking.Desk) {
	t.Helper()
	ledger, err := ledger.Open(connect(t, e, source), ledger.Options{Source: source, Tokens: x.auth.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return ledger, desk
}

// serve starts an instance, ready, and stops it after the test.
func (x *town) serve(t testing.TB, e *bustest.Env) string {
	t.Helper()
	ledger, desk := x.open(t, e, "/ridersvc")
	board := board.New()
	follower := ledger.Follow(board)
	x.run(t, "follower", follower.Run)
	riders, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x.fleets = append(x.fleets, riders)
	conn := connect(t, e, "/ridersvc")
	positions := natsfleet.NewPositions(conn, riders)
	x.run(t, "positions", positions.Run)
	service, err := ridersvc.New(ridersvc.Config{
		Config: bookings.Config{Fleet: riders, Desk: desk, Board: board, Ready: follower.Ready, Ledger: ledger,
			Verifier: x.auth.Verifier()},
		Announce: positions.Announce, Tell: func(o feed.Offer) error { return feed.SendOffer(conn, o) },
		Roster: natsfleet.NewRoster(conn),
	})
	if err != nil {
		t.Fatal(err)
	}
	x.run(t, "offers", service.Run)
	server := httptest.NewServer(webtest.Checked(t, service.Routes(), "openapi.yaml"))
	t.Cleanup(server.Close)
	wait.Until(t, "the board is ready", func() bool { return follower.Ready(t.Context()) == nil })
	return server.URL
}

// run runs something until the test ends.
func (x *town) run(t testing.TB, name string, task func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// at reports to one instance where a rider is, and returns when both know.
func (x *town) at(t testing.TB, rider, instance int, p booking.Place) {
	t.Helper()
	// a report may be lost as long as the other one does not listen yet
	wait.Until(t, "both instances know where a rider is", func() bool {
		body := fmt.Sprintf(`{"lat":%v,"lng":%v}`, p.Lat, p.Lng)
		if a, err := x.send(t.Context(), "PUT", "/position", rider, instance, body); err != nil ||
			a.status != http.StatusOK {
			t.Fatalf("position: %+v, %v", a, err)
		}
		for _, m := range x.fleets {
			if at, ok := m.Where(booking.RiderID(x.riders[rider])); !ok || at.Place != p {
				return false
			}
		}
		return true
	})
}

func (x *town) book(t testing.TB) booking.ID {
	t.Helper()
	return x.bookTrip(t, booking.Trip{})
}

func (x *town) bookTrip(t testing.TB, trip booking.Trip) booking.ID {
	t.Helper()
	id := booking.ID(booking.NewID())
	if _, err := x.desk.Book(t.Context(), x.byUser(), id, trip); err != nil {
		t.Fatal(err)
	}
	return id
}

func (x *town) byUser() booking.Command {
	return booking.Command{
		ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: ulla, Role: booking.User},
		Proof: x.proof,
	}
}

// An answer is what a rider was told.
type answer struct {
	status  int
	says    string
	booking booking.ID
}

// accept asks one instance on behalf of one rider.
func (x *town) accept(ctx context.Context, rider, instance int, body string) (answer, error) {
	return x.send(ctx, "POST", "/accept-booking", rider, instance, body)
}

func (x *town) send(ctx context.Context, method, target string, rider, instance int, body string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, x.urls[instance]+target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+x.tokens[rider])
	resp, err := x.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, says: string(data)}
	if a.status == http.StatusOK {
		var v struct {
			Booking booking.ID `json:"booking_id"`
		}
		if err := json.Unmarshal(data, &v); err != nil {
			return answer{}, err
		}
		a.booking = v.Booking
	}
	return a, nil
}

// race lets all riders ask at once, half of them on each instance, with also done meanwhile.
func (x *town) race(t testing.TB, body string, also func() error) []answer {
	t.Helper()
	answers := make([]answer, len(x.riders))
	start := make(chan struct{})
	var g errgroup.Group
	for i := range x.riders {
		g.Go(func() (err error) {
			<-start
			answers[i], err = x.accept(t.Context(), i, i%2, body)
			return err
		})
	}
	if also != nil {
		g.Go(func() error { <-start; return also() })
	}
	close(start)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return answers
}

// winner returns who was told success, and fails the test unless that was one at most and all
// others were told loss.
func winner(t testing.TB, answers []answer, status int, loss ...string) (int, bool) {
	t.Helper()
	found := -1
	for i, a := range answers {
		switch {
		case a.status == http.StatusOK && found < 0:
			found = i
		case a.status == http.StatusOK:
			t.Errorf("two winners: %s and %s", a.says, answers[found].says)
		case a.status != status || !slices.Contains(loss, a.says):
			t.Errorf("a loser was told %d %q, want %d %q", a.status, a.says, status, loss)
		}
	}
	return found, found >= 0
}

const crowd = 32

// rounds is how often a race is run.
func rounds(t testing.TB) int {
	if wait.Long() {
		return 10
	}
	return 2
}

func TestCrowdForOneBooking(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, crowd)
		for round := range rounds(t) {
			id := x.book(t)
			i, ok := winner(t, x.race(t, "{}", nil), http.StatusNotFound, noneOpen)
			if !ok {
				t.Fatalf("round %d: nobody was given the booking", round)
			}
			x.has(t, id, booking.StateAccepted, x.riders[i])
			x.free(t, id)
		}
	})
}

func TestCrowdForOneNamedBooking(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, crowd)
		for round := range rounds(t) {
			id := x.book(t)
			i, ok := winner(t, x.race(t, named(id), nil), http.StatusConflict, booking.ErrAlreadyAccepted.Message)
			if !ok {
				t.Fatalf("round %d: nobody was given the booking", round)
			}
			x.has(t, id, booking.StateAccepted, x.riders[i])
			x.free(t, id)
		}
	})
}

func TestCrowdWhileTheUserCancels(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, crowd)
		for round := range rounds(t) {
			id := x.book(t)
			cancel := func() error {
				_, err := x.desk.Cancel(t.Context(), x.byUser(), id, "")
				return err
			}
			body, status, losses := "{}", http.StatusNotFound, []string{noneOpen}
			if round%2 == 0 {
				body, status, losses = named(id), http.StatusConflict,
					[]string{booking.ErrAlreadyAccepted.Message, booking.ErrCancelled.Message}
			}
			rider := ""
			if i, ok := winner(t, x.race(t, body, cancel), status, losses...); ok {
				rider = x.riders[i] // and then the user cancelled all the same, as a user may
			}
			x.has(t, id, booking.StateCancelled, rider)
		}
	})
}

func TestABookingForEveryone(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, crowd)
		for round := range max(2, rounds(t)/2) {
			want := make(map[booking.ID]bool)
			for range crowd {
				want[x.book(t)] = true
			}
			for i, a := range x.race(t, "{}", nil) {
				if a.status != http.StatusOK || !want[a.booking] {
					t.Fatalf("round %d: a rider was told %d %q while there was a booking for everyone", round, a.status,
						a.says)
				}
				delete(want, a.booking)
				x.has(t, a.booking, booking.StateAccepted, x.riders[i])
				x.free(t, a.booking)
			}
		}
	})
}

// Riders who report to one instance and ask the other one are given what is near, each something
// else, and nobody what is far.
func TestANearBookingForEveryone(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, crowd)
		from := func(p booking.Place) booking.ID {
			return x.bookTrip(t, booking.Trip{Pickup: &p, Dropoff: &booking.Place{Lat: p.Lat + 0.01, Lng: p.Lng}})
		}
		for i := range x.riders {
			x.at(t, i, (i+1)%2, north(float64(i)))
		}
		far := from(north(20_000))
		for round := range max(2, rounds(t)/2) {
			want := make(map[booking.ID]bool)
			for i := range crowd {
				want[from(north(float64(50*i)))] = true
			}
			for i, a := range x.race(t, "{}", nil) {
				if a.status != http.StatusOK || !want[a.booking] {
					t.Fatalf("round %d: a rider was told %d %q while there was a booking near for everyone", round,
						a.status, a.says)
				}
				delete(want, a.booking)
				x.has(t, a.booking, booking.StateAccepted, x.riders[i])
				x.free(t, a.booking)
			}
		}
		if a, err := x.accept(t.Context(), 0, 0, "{}"); err != nil || a.status != http.StatusNotFound ||
			a.says != "No open bookings within 3 km of you" {
			t.Errorf("answer %+v, %v", a, err)
		}
		x.at(t, 0, 0, north(19_000))
		if a, err := x.accept(t.Context(), 0, 1, "{}"); err != nil || a.booking != far {
			t.Errorf("answer %+v, %v, want %s", a, err, far)
		}
	})
}

// A booking that was answered with 200 a moment ago, through another process, is there for the
// first rider who asks.
func TestNobodyIsToldNoneTooEarly(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, 1)
		for i := range 10 * rounds(t) {
			id := x.book(t)
			a, err := x.accept(t.Context(), 0, i%2, "{}")
			if err != nil {
				t.Fatal(err)
			}
			if a.status != http.StatusOK || a.booking != id {
				t.Fatalf("booking %d: answer %d %q", i, a.status, a.says)
			}
			x.free(t, id)
		}
	})
}

// free lets the user cancel what a rider has accepted, so that the rider can race again.
func (x *town) free(t testing.TB, id booking.ID) {
	t.Helper()
	if _, err := x.desk.Cancel(t.Context(), x.byUser(), id, ""); err != nil {
		t.Fatal(err)
	}
}

// has fails the test unless the ledger has the booking in that state, with that rider.
func (x *town) has(t testing.TB, id booking.ID, state booking.State, rider string) {
	t.Helper()
	b, err := x.desk.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if b.State != state || b.Rider != booking.RiderID(rider) {
		t.Errorf("the ledger has %s by %q, want %s by %q", b.State, b.Rider, state, rider)
	}
}
