package usersvc_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

// An instance is a Service with a NATS connection, a ledger and a board of its own, serving HTTP.
type instance struct {
	url    string
	desk   *booking.Desk
	board  *board.Board
	ledger *ledger.Ledger
}

// serve starts an instance, ready, and stops it after the test.
func serve(t *testing.T, e *bustest.Env, auth *tokentest.Authority, edits ...func(*usersvc.Config)) *instance {
	t.Helper()
	ledger, err := ledger.Open(e.Connect(t), ledger.Options{Source: "/usersvc", Tokens: auth.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	board := board.New()
	follower := ledger.Follow(board)
	riders, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	positions := natsfleet.NewPositions(e.Connect(t), riders)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks errgroup.Group
	tasks.Go(func() error { return follower.Run(ctx) })
	tasks.Go(func() error { return positions.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := tasks.Wait(); err != nil {
			t.Errorf("readers: %v", err)
		}
	})
	config := usersvc.Config{Config: bookings.Config{
		Fleet: riders,
		Desk:  desk, Board: board, Ready: follower.Ready, Ledger: ledger, Verifier: auth.Verifier(),
	}}
	for _, edit := range edits {
		edit(&config)
	}
	service, err := usersvc.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(webtest.Checked(t, service.Routes(), "openapi.yaml"))
	t.Cleanup(server.Close)
	in := &instance{url: server.URL, desk: desk, board: board, ledger: ledger}
	wait.Until(t, "the board is ready", func() bool { return follower.Ready(t.Context()) == nil })
	return in
}

// call makes a request over HTTP.
func (in *instance) call(
	ctx context.Context, method, target, bearer, body string, headers ...string,
) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, in.url+target, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// ok is call for what must succeed.
func (in *instance) ok(t *testing.T, method, target, bearer, body string, headers ...string) map[string]any {
	t.Helper()
	status, answer, err := in.call(t.Context(), method, target, bearer, body, headers...)
	var v map[string]any
	if err == nil {
		err = json.Unmarshal([]byte(answer), &v)
	}
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: answer %d %q, %v", method, target, status, answer, err)
	}
	return v
}

func TestOverNATS(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		auth := tokentest.New(t)
		here, there := serve(t, e, auth), serve(t, e, auth)
		watch := e.Connect(t).NATS()
		seen, err := watch.SubscribeSync("booking.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := watch.Flush(); err != nil {
			t.Fatal(err)
		}
		user, rider := auth.Token(token.User, ulla, "john@example.com"),
			auth.Token(token.Rider, rita, "rider@example.com")

		var newest []string
		for range 20 {
			id := here.ok(t, "POST", "/book", user, "{}")["booking_id"].(string)
			newest = slices.Insert(newest, 0, id)
			event(t, seen, "booking."+id+".1.requested", user)
			// Right on every instance, and in the list of this one, from the moment of the answer.
			if v := there.ok(t, "GET", "/bookings/"+id, user, ""); v["state"] != "open" {
				t.Fatalf("the other instance shows %v", v)
			}
			if got := here.list(t, user); !slices.Equal(got, newest) {
				t.Fatalf("the list has %v, want %v", got, newest)
			}
		}
		within, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		if err := there.board.Await(within, here.ledger.Appended()); err != nil {
			t.Fatalf("the other instance's board stays behind: %v", err)
		}
		if got := there.list(t, user); !slices.Equal(got, newest) {
			t.Errorf("the other instance lists %v, want %v", got, newest)
		}

		id := newest[0]
		accept := booking.Command{
			ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: rita, Role: booking.Rider}, Proof: rider,
		}
		if _, err := there.desk.Accept(t.Context(), accept, booking.ID(id)); err != nil {
			t.Fatal(err)
		}
		event(t, seen, "booking."+id+".2.accepted", rider)
		if v := here.ok(t, "GET", "/bookings/"+id, user, ""); v["state"] != "accepted" || v["raider_id"] != rita {
			t.Errorf("the accepted booking is shown as %v", v)
		}
		if v := here.ok(t, "POST", "/bookings/"+id+"/cancel", user, `{"reason":"late"}`); v["state"] != "cancelled" {
			t.Errorf("the cancelled booking is shown as %v", v)
		}
		event(t, seen, "booking."+id+".3.cancelled", user)
	})
}

// event fails the test unless the next message is that event, with that token.
func event(t *testing.T, seen *nats.Subscription, subject, proof string) {
	t.Helper()
	m, err := seen.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if m.Subject != subject {
		t.Errorf("event on %s, want %s", m.Subject, subject)
	}
	if m.Header.Get("Authorization") != "Bearer "+proof {
		t.Errorf("%s does not carry the token of its actor", subject)
	}
}

func (in *instance) list(t *testing.T, bearer string) []string {
	t.Helper()
	var ids []string
	for _, b := range in.ok(t, "GET", "/bookings?limit=100", bearer, "")["bookings"].([]any) {
		ids = append(ids, b.(map[string]any)["booking_id"].(string))
	}
	return ids
}

// 32 retries of one request at once, on two instances, are one booking.
func TestIdempotencyKeyInARace(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		auth := tokentest.New(t)
		instances := []*instance{serve(t, e, auth), serve(t, e, auth)}
		user := auth.Token(token.User, ulla, "john@example.com")
		for range 5 {
			key, ids := booking.NewID(), make([]string, 32)
			var g errgroup.Group
			for i := range ids {
				g.Go(func() error {
					status, answer, err := instances[i%2].call(t.Context(), "POST", "/book", user, "{}",
						"Idempotency-Key", key)
					if err != nil {
						return err
					}
					var v struct {
						Booking string `json:"booking_id"`
					}
					if err := json.Unmarshal([]byte(answer), &v); err != nil || status != http.StatusOK {
						t.Errorf("answer %d %q", status, answer)
					}
					ids[i] = v.Booking
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(slices.Compact(ids)) != 1 {
				t.Fatalf("one request booked %v", ids)
			}
		}
		last, err := instances[0].ledger.LastSequence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := instances[0].board.Await(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if got := len(instances[0].list(t, user)); got != 5 {
			t.Errorf("%d bookings, want 5", got)
		}
	})
}

// What a rider has told another process counts here.
func TestAvailabilityAcrossProcesses(t *testing.T) {
	e := bustest.Run(t)
	auth := tokentest.New(t)
	instances := []*instance{serve(t, e, auth), serve(t, e, auth)}
	elsewhere, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	positions := natsfleet.NewPositions(e.Connect(t), elsewhere)
	bearer := auth.Token(token.User, ulla, "john@example.com")
	for _, in := range instances {
		// a report may be lost as long as nobody listens
		wait.Until(t, "a rider is near", func() bool {
			s, _, err := elsewhere.Report(rita, fleet.Fix{Place: booking.Place{Lat: 12.97, Lng: 77.59}})
			if err != nil {
				t.Fatal(err)
			}
			if err := positions.Announce(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			status, body, err := in.call(t.Context(), "GET", "/availability?lat=12.97&lng=77.59", bearer, "")
			if err != nil || status != http.StatusOK {
				t.Fatalf("answer %d %s, %v", status, body, err)
			}
			return strings.Contains(body, `"raiders":1,`)
		})
	}
}

// Each of three instances lets a user who books at all of them at once have as many open bookings
// as are allowed, and none lets them have more once it has seen those of the others.
func TestOpenBookingsOverNATS(t *testing.T) {
	const most, tries = 4, 90
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		auth := tokentest.New(t)
		var instances []*instance
		for range 3 {
			instances = append(instances, serve(t, e, auth, func(c *usersvc.Config) { c.OpenBookings = most }))
		}
		user := auth.Token(token.User, ulla, "john@example.com")
		made := make([]atomic.Int32, len(instances))
		var all errgroup.Group
		for i := range tries {
			all.Go(func() error {
				at := i % len(instances)
				status, answer, err := instances[at].call(t.Context(), "POST", "/book", user, "{}")
				switch {
				case err != nil:
					return err
				case status == http.StatusOK:
					made[at].Add(1)
				case status != http.StatusConflict:
					t.Errorf("answer %d %s", status, answer)
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		total := 0
		for i := range made {
			n := int(made[i].Load())
			if total += n; n > most {
				t.Errorf("instance %d let the user have %d open bookings, want %d at most", i, n, most)
			}
		}
		if total < most {
			t.Errorf("%d open bookings, want %d at least", total, most)
		}
		for _, in := range instances {
			wait.Until(t, "the board shows all", func() bool {
				return len(in.board.OfUser(booking.UserID(ulla), tries, 0)) == total
			})
			if status, answer, err := in.call(t.Context(), "POST", "/book", user, "{}"); status != http.StatusConflict {
				t.Errorf("one more: %d %s, %v", status, answer, err)
			}
		}
	})
}
