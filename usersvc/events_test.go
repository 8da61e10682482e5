package usersvc_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/webtest"
)

// streaming is an env that serves HTTP.
func streaming(t *testing.T, limits web.StreamLimits) (*env, string) {
	t.Helper()
	e := newEnvWith(t, func(c *usersvc.Config) {
		// which nobody changes while a stream looks at it
		c.Streams, c.Now = limits, time.Now
	})
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	return e, server.URL
}

// report tells the map of riders where a rider is, and returns how a stream says it.
func (e *env) report(rider booking.RiderID, lat float64) string {
	e.t.Helper()
	at := time.Now()
	fix := fleet.Fix{Place: booking.Place{Lat: lat, Lng: 77.25}, At: at}
	if _, verdict, err := e.fleet.Report(rider, fix); err != nil || verdict != fleet.Believed {
		e.t.Fatalf("report of %s: %q, %v", rider, verdict, err)
	}
	return fmt.Sprintf(`{"lat":%v,"lng":77.25,"at":%q}`, lat, jsontime.Format(at))
}

func events(url string, id booking.ID) string { return url + "/bookings/" + string(id) + "/events" }

func TestWatch(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{})
	id := e.book(ulla)
	s := webtest.Watch(t, events(url, id), e.user(ulla))
	first, data := s.Want("requested", string(id), `"state":"open"`, `"deadline":"`)
	if strings.Contains(data, "raider_id") || strings.Contains(data, "example.com") {
		t.Errorf("%s", data)
	}
	ctx := t.Context()
	do := func(_ booking.Booking, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A first rider gives it back, and is followed while the user waits for it.
	do(e.desk.Accept(ctx, command(booking.Rider, rolf), id))
	second, data := s.Want("accepted", `"state":"accepted"`, `"raider_id":"`+rolf+`"`)
	if strings.Contains(data, "deadline") {
		t.Errorf("%s", data)
	}
	if at, _ := s.Want("position", e.report(rolf, 12.5)); at != second {
		t.Errorf("a position has the id %s", at)
	}
	do(e.desk.Release(ctx, command(booking.Rider, rolf), id, "puncture"))
	if _, data = s.Want("released", `"state":"open"`, `"deadline":"`); strings.Contains(data, "puncture") || strings.Contains(data, rolf) {
		t.Errorf("%s", data)
	}
	e.report(rolf, 12.5001) // who is followed no more
	do(e.desk.Accept(ctx, command(booking.Rider, rita), id))
	s.Want("accepted", `"raider_id":"`+rita+`"`)
	do(e.desk.Arrive(ctx, command(booking.Rider, rita), id))
	s.Want("arrived", `"state":"arrived"`)
	s.Want("position", e.report(rita, 12.5))
	do(e.desk.RefuseStart(ctx, command(booking.Rider, rita), id))
	s.Want("start_refused", `"state":"arrived"`)
	do(e.desk.Start(ctx, command(booking.Rider, rita), id))
	s.Want("started", `"state":"started"`)
	e.report(rita, 12.5001) // who is followed no more
	do(e.desk.Complete(ctx, command(booking.Rider, rita), id))
	s.Want("completed", `"state":"completed"`)
	do(e.desk.Rate(ctx, command(booking.Rider, rita), id, 1)) // which is not the user's to see
	do(e.desk.Rate(ctx, command(booking.User, ulla), id, 5))
	s.Want("rated", `"stars":5`)
	s.Ended("booking_over")

	// Again from the beginning, and from where somebody stopped.
	whole := []string{"requested", "accepted", "released", "accepted", "arrived", "start_refused", "started", "completed", "rated"}
	for after, want := range map[string][]string{"": whole, first: whole[1:], second: whole[2:]} {
		for _, again := range []*webtest.Stream{
			webtest.Watch(t, events(url, id), e.user(ulla), "Last-Event-ID", after),
			webtest.Watch(t, events(url, id)+"?after="+max(after, "0"), e.user(ulla)),
		} {
			for _, kind := range want {
				again.Want(kind)
			}
			again.Ended("booking_over")
		}
	}
}

// What an operator decides looks like what anybody decides.
func TestWatchSeesOperators(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{})
	id := e.book(ulla)
	s := webtest.Watch(t, events(url, id), e.user(ulla))
	s.Want("requested")
	operator := booking.NewID()
	for _, act := range []func() (booking.Booking, error){
		func() (booking.Booking, error) {
			return e.desk.Accept(t.Context(), command(booking.Rider, rolf), id)
		},
		func() (booking.Booking, error) {
			return e.desk.ReleaseAsOperator(t.Context(), command(booking.Service, operator), id, "a dead phone")
		},
		func() (booking.Booking, error) {
			return e.desk.CancelAsOperator(t.Context(), command(booking.Service, operator), id, "a flood")
		},
	} {
		if _, err := act(); err != nil {
			t.Fatal(err)
		}
	}
	s.Want("accepted")
	s.Want("released", `"event":"released"`, `"state":"open"`)
	s.Want("cancelled", `"event":"cancelled"`, `"reason":"a flood"`)
	s.Ended("booking_over")
}

// Who has heard all of a booking that is over does not come back again and again, as clients of
// this kind do after any other end. Who has heard what the ledger does not have, for it was
// restored from before that, begins again.
func TestWatchAgain(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{})
	id := e.book(ulla)
	s := webtest.Watch(t, events(url, id), e.user(ulla))
	requested, _ := s.Want("requested")
	webtest.Watch(t, events(url, id), e.user(ulla), "Last-Event-ID", "999999").Ended("restart")
	e.bring(id, booking.StateCancelled)
	cancelled, _ := s.Want("cancelled")
	s.Ended("booking_over")
	for after, want := range map[string]int{cancelled: 204, requested: 200, "0": 200, "": 200, "999999": 200} {
		for _, w := range []*httptest.ResponseRecorder{
			e.call("GET", "/bookings/"+string(id)+"/events", e.user(ulla), "", "Last-Event-ID", after),
			e.call("GET", "/bookings/"+string(id)+"/events?after="+max(after, "0"), e.user(ulla), ""),
		} {
			if w.Code != want || (w.Body.Len() == 0) != (want == 204) || strings.Contains(w.Body.String(), `"restart"`) != (after == "999999") {
				t.Errorf("after %q: %d %s, want %d", after, w.Code, w.Body, want)
			}
		}
	}
}

func TestWatchEndsWithTheBooking(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{})
	for _, state := range []booking.State{booking.StateCancelled, booking.StateExpired} {
		id := e.book(ulla)
		s := webtest.Watch(t, events(url, id), e.user(ulla))
		s.Want("requested")
		e.bring(id, state)
		s.Want(string(state))
		s.Ended("booking_over")
		e.ahead.Store(0)
	}
}

// A ride that has long been over is told and not waited for.
func TestWatchOfThePast(t *testing.T) {
	e := newEnvWith(t, func(c *usersvc.Config) { c.Now = func() time.Time { return time.Now().Add(2 * time.Minute) } })
	id := e.book(ulla)
	e.bring(id, booking.StateCompleted)
	w := e.call("GET", "/bookings/"+string(id)+"/events", e.user(ulla), "")
	if w.Code != 200 || !strings.HasSuffix(w.Body.String(), "event: end\ndata: {\"reason\":\"booking_over\",\"reconnect\":false}\n\n") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWatchIsForItsUser(t *testing.T) {
	e := newEnv(t)
	id := e.book(ulla)
	for _, c := range []struct {
		bearer, id string
		status     int
	}{
		{e.user(uwe), string(id), 404},
		{e.user(ulla), wrong, 404},
		{e.user(ulla), "no-id", 400},
		{e.rider(rita), string(id), 403},
		{"", string(id), 401},
	} {
		if w := e.call("GET", "/bookings/"+c.id+"/events", c.bearer, ""); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.id, w.Code, w.Body, c.status)
		}
	}
	if w := e.call("GET", "/bookings/"+string(id)+"/events", e.user(ulla), "", "Last-Event-ID", "x"); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	e.unready = fmt.Errorf("not yet")
	later(t, e.call("GET", "/bookings/"+string(id)+"/events", e.user(ulla), ""))
}

func TestWatchersAreLimited(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{PerCaller: 1, Total: 2})
	id, other := e.book(ulla), e.book(uwe)
	webtest.Watch(t, events(url, id), e.user(ulla)).Want("requested")
	if w := e.call("GET", "/bookings/"+string(id)+"/events", e.user(ulla), ""); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	webtest.Watch(t, events(url, other), e.user(uwe)).Want("requested")
	later(t, e.call("GET", "/bookings/"+string(id)+"/events", e.user(rita), ""))
}

// However the ledger is written meanwhile, on whatever instance, a user is told every event once
// and in order, also when coming and going.
func TestWatchOverNATS(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		auth := tokentest.New(t)
		here, there := serve(t, e, auth), serve(t, e, auth)
		user := auth.Token(token.User, ulla, "john@example.com")
		const bookings, rides = 6, 8
		done := make(chan error, bookings)
		for i := range bookings {
			id := booking.ID(here.ok(t, "POST", "/book", user, "{}")["booking_id"].(string))
			go func() { done <- write(t, there, auth, id, rides) }()
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				after, n := "", 0
				for n < 2*rides+2 {
					in := []*instance{here, there}[(n+i)%2]
					s := webtest.Watch(t, in.url+"/bookings/"+string(id)+"/events", user, "Last-Event-ID", after)
					for range 1 + (n+i)%5 { // and then it is cut off
						id, kind, data := s.Next()
						want := "released"
						switch {
						case n == 0:
							want = "requested"
						case n == 2*rides+1:
							want = "cancelled"
						case n%2 == 1:
							want = "accepted"
						}
						if kind != want {
							t.Fatalf("event %d is %s %s, want %s", n, kind, data, want)
						}
						after = id
						if n++; n == 2*rides+2 {
							s.Ended("booking_over")
							break
						}
					}
					s.Close()
				}
			})
		}
		for range bookings {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// write takes a booking through a number of riders who give it back, and cancels it.
func write(t *testing.T, in *instance, auth *tokentest.Authority, id booking.ID, rides int) error {
	by := func(role booking.Role, who string) booking.Command {
		return booking.Command{
			ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: who, Role: role},
			Proof: auth.Proof(token.Role(role), who),
		}
	}
	for range rides {
		who := booking.NewID()
		if _, err := in.desk.Accept(t.Context(), by(booking.Rider, who), id); err != nil {
			return err
		}
		if _, err := in.desk.Release(t.Context(), by(booking.Rider, who), id, ""); err != nil {
			return err
		}
	}
	_, err := in.desk.Cancel(t.Context(), by(booking.User, ulla), id, "")
	return err
}

func TestEventsAreNamedAsTheirDataIs(t *testing.T) {
	e, url := streaming(t, web.StreamLimits{})
	id := e.book(ulla)
	e.bring(id, booking.StateCompleted)
	s := webtest.Watch(t, events(url, id), e.user(ulla))
	for range 5 {
		_, kind, data := s.Next()
		var v map[string]any
		if err := json.Unmarshal([]byte(data), &v); err != nil || v["event"] != kind || v["booking_id"] != string(id) {
			t.Errorf("%s: %v, %v", kind, v, err)
		}
	}
}

// A session that is revoked takes its streams with it, and a board that is read again has them
// begin again.
func TestWatchEndsFromElsewhere(t *testing.T) {
	var revoked token.RevocationSet
	revoked.Complete(time.Now().Add(time.Hour)) // there are no others
	e := newEnvWith(t, func(c *usersvc.Config) {
		verifier, err := token.NewVerifier(token.Config{Keys: tokentest.New(t).Keys(), Revocations: &revoked})
		if err != nil {
			t.Fatal(err)
		}
		c.Verifier, c.Streams, c.Now = verifier, web.StreamLimits{Heartbeat: 20 * time.Millisecond}, time.Now
	})
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	id, other := e.book(ulla), e.book(uwe)
	s := webtest.Watch(t, events(server.URL, id), e.user(ulla))
	stays := webtest.Watch(t, events(server.URL, other), e.user(uwe))
	s.Want("requested")
	stays.Want("requested")
	revoked.Add(token.Revocation{Subject: ulla, NotBefore: time.Now().Add(time.Second), At: time.Now()})
	s.Ended("token_revoked")
	e.bring(other, booking.StateAccepted)
	stays.Want("accepted")
	again := board.New()
	again.Advance(e.ledger.Board.Seq())
	e.ledger.Board.Become(again)
	if id, _ := stays.Want("end", `"reason":"restart"`, `"reconnect":true`); id != "" {
		t.Errorf("the client would go on from %s", id)
	}
}
