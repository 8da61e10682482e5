package ridersvc_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

var here = booking.Place{Lat: 12.97, Lng: 77.59}

// north returns a place that many metres north of here.
func north(metres float64) booking.Place {
	return booking.Place{Lat: here.Lat + metres/111_195, Lng: here.Lng}
}

// bookAt books a ride from a place, in another process.
func (e *env) bookAt(p booking.Place) booking.ID {
	e.t.Helper()
	return e.bookTrip(booking.Trip{Pickup: &p, Dropoff: &booking.Place{Lat: p.Lat + 0.01, Lng: p.Lng}})
}

// at reports where a rider is.
func (e *env) at(rider string, p booking.Place) {
	e.t.Helper()
	webtest.Object(e.t, e.call("PUT", "/position", e.rider(rider), fmt.Sprintf(`{"lat":%v,"lng":%v}`, p.Lat, p.Lng)))
}

// A rider who reports a position is online, unless it has said to be offline, and what it says is
// told to the other instances.
func TestPosition(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		method, target, body, message string
		// what is answered, and whether the rider counts as online
		online, counts bool
	}{
		{"POST", "/online", "", "You are online", true, false}, // it is not known where
		{"PUT", "/position", `{"lat":12.97,"lng":77.59}`, "Position updated", true, true},
		{"POST", "/offline", "{}", "You are offline", false, false},
		{"PUT", "/position", `{"lng":77.6,"lat":12.97}`, "Position updated", false, false},
		{"POST", "/online", "{}", "You are online", true, true},
	} {
		v := webtest.Object(t, e.call(c.method, c.target, e.rider(rita), c.body))
		if want := map[string]any{"success": true, "message": c.message, "online": c.online}; !reflect.DeepEqual(v,
			want) {
			t.Errorf("%s %s: answer %v, want %v", c.method, c.target, v, want)
		}
		if got := e.fleet.Online(rita); got != c.counts {
			t.Errorf("after %s %s the rider is online: %v", c.method, c.target, got)
		}
	}
	if p, ok := e.fleet.Where(rita); !ok || p.Place != (booking.Place{Lat: 12.97, Lng: 77.6}) {
		t.Errorf("the rider is at %+v, %v", p, ok)
	}
	if len(e.told) != 5 {
		t.Fatalf("the other instances were told %+v", e.told)
	}
	other, err := fleet.NewMap(fleet.Options{Now: e.now})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.told {
		if _, err := other.Learn(s); err != nil {
			t.Error(err)
		}
	}
	if p, ok := other.Where(rita); !ok || p.Lng != 77.6 || !other.Online(rita) {
		t.Errorf("another instance has the rider at %+v, %v", p, ok)
	}
	e.ahead.Store(int64(61 * time.Second))
	if e.fleet.Online(rita) {
		t.Error("a rider who has not been heard of is online")
	}
	// who has never said anything
	v := webtest.Object(t, e.call("PUT", "/position", e.rider(rolf), `{"lat":-90,"lng":180}`))
	if v["online"] != true || !e.fleet.Online(rolf) {
		t.Errorf("a rider who reports a position is not online: %v", v)
	}
	e.nothingTried()
}

func TestPositionRefuses(t *testing.T) {
	const (
		both  = "A place needs both lat and lng, as numbers of degrees."
		place = "A place needs a lat from -90 to 90 and a lng from -180 to 180, in degrees."
	)
	e := newEnv(t)
	for _, c := range []struct{ body, says string }{
		{"", both}, {"{}", both}, {`{"lat":1}`, both}, {`{"lng":1}`, both}, {`{"lat":null,"lng":1}`, both},
		{`{"lat":91,"lng":1}`, place}, {`{"lat":1,"lng":-180.1}`, place},
		{`{"lat":NaN,"lng":1}`, "The body is not valid JSON. Send one JSON object."},
		{`{"lat":"1","lng":1}`, `Field "lat" must be a number.`},
		{`{"lat":1e999,"lng":1}`, `Field "lat" must be a number.`},
		{`{"lat":1,"lng":1,"raider":"` + rolf + `"}`, ""},
		{`{"lat":1,"lng":1,"lat":2}`, ""},
	} {
		w := e.call("PUT", "/position", e.rider(rita), c.body)
		if c.says != "" {
			webtest.Refused(t, w, http.StatusBadRequest, c.says)
		} else if w.Code != http.StatusBadRequest {
			t.Errorf("%s: answer %d %q", c.body, w.Code, w.Body)
		}
	}
	for _, target := range []string{"/online", "/offline"} {
		if w := e.call("POST", target, e.rider(rita), `{"raider":"`+rolf+`"}`); w.Code != http.StatusBadRequest {
			t.Errorf("%s: answer %d %q", target, w.Code, w.Body)
		}
	}
	if known, _ := e.fleet.Count(); known != 0 || len(e.told) != 0 {
		t.Errorf("%d riders are known, and others were told %v", known, e.told)
	}
}

// Who cannot be told on is asked to say it again, and is known here meanwhile.
func TestPositionWithoutTheBus(t *testing.T) {
	e := newEnv(t)
	e.deaf = bus.ErrUnavailable.Because(errors.New("away"))
	later(t, e.call("PUT", "/position", e.rider(rita), `{"lat":1,"lng":2}`), bus.ErrUnavailable.Message)
	if !e.fleet.Online(rita) {
		t.Error("a report was lost")
	}
}

// What is near is listed nearest first, with how far it is and since when it waits.
func TestOpenAround(t *testing.T) {
	e := newEnv(t)
	begun := e.now()
	e.book() // nowhere
	far, near := e.bookAt(north(2500)), e.bookAt(north(-400))
	e.bookAt(north(3100))
	taken, nearest := e.bookAt(north(1)), e.bookAt(north(20))
	e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), taken))
	list := func(query string) []map[string]any {
		t.Helper()
		v := webtest.Object(t, e.call("GET", fmt.Sprintf("/open-bookings?lat=%v&lng=%v%s", here.Lat, here.Lng, query),
			e.rider(rita), ""))
		if len(v) != 1 {
			t.Errorf("answer %v", v)
		}
		var found []map[string]any
		for _, b := range v["bookings"].([]any) {
			found = append(found, b.(map[string]any))
		}
		return found
	}
	is := func(found []map[string]any, want ...booking.ID) {
		t.Helper()
		var got []booking.ID
		for _, b := range found {
			got = append(got, booking.ID(b["booking_id"].(string)))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("near are %v, want %v", got, want)
		}
	}
	e.ahead.Store(int64(45 * time.Second))
	found := list("")
	is(found, nearest, near, far)
	is(list("&limit=2"), nearest, near)
	is(list("&radius=100"), nearest)
	is(list("&radius=5"), nearest) // which is 20 m away, and known roughly
	if got := len(list("&radius=50000")); got != 4 {
		t.Errorf("%d within 50 km, want 4", got)
	}
	b := found[1]
	waits, _ := b["waiting_seconds"].(float64)
	if b["pickup_distance_m"] != 445.0 || b["distance_m"] != 1112.0 || waits < 44 ||
		waits > e.now().Sub(begun).Seconds() {
		t.Errorf("the second is %v", b)
	}
	if got, _ := e.page(""); len(got) != 5 {
		t.Errorf("without a place %d are listed, want 5", len(got))
	}
	e.ahead.Store(int64(2 * deadline))
	is(list(""))
}

func TestOpenAroundRefuses(t *testing.T) {
	e := newEnv(t)
	for query, says := range map[string]string{
		"lat=1":                           "lng must be given once, as a number from -180 to 180, in degrees.",
		"radius=5":                        "lat must be given once, as a number from -90 to 90, in degrees.",
		"lat=NaN&lng=1":                   "lat must be given once, as a number from -90 to 90, in degrees.",
		"lat=1&lng=1&radius=NaN":          "radius must be given once, as a number from 1 to 50000, in metres.",
		"lat=1&lng=1&radius=5e4&cursor=3": "With lat and lng there is only one page. Use limit to get more bookings, or another radius to get others.",
		"lat=1&lng=1&limit=101":           "limit must be given once, as a whole number from 1 to 100.",
	} {
		webtest.Refused(t, e.call("GET", "/open-bookings?"+query, e.rider(rita), ""), http.StatusBadRequest, says)
	}
	e.unready = ledger.ErrNotCaughtUp
	later(t, e.call("GET", "/open-bookings?lat=1&lng=1", e.rider(rita), ""), bookings.ErrCatchingUp.Message)
}

// A rider of whom it is known where it is gets what is near, then what is nowhere, and never what
// is far.
func TestAnyTakesTheNearest(t *testing.T) {
	e := newEnv(t)
	nowhere, far, near, nearest := e.book(), e.bookAt(north(9000)), e.bookAt(north(2900)), e.bookAt(north(-300))
	late := e.book()
	e.at(rita, here)
	for _, id := range []booking.ID{nearest, near, nowhere, late} {
		won(t, e.accept(rita, "{}"), rita, id)
		e.finish(rita, id)
	}
	const none = "No open bookings within 3 km of you"
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, none)
	e.at(rita, north(8000)) // and now it is near
	won(t, e.accept(rita, "{}"), rita, far)
	e.finish(rita, far)
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
	farther := e.bookAt(north(-50_000))
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, none)
	won(t, e.accept(rita, named(farther)), rita, farther) // by name it may be anywhere
}

// A rider of whom nobody knows where it is, or where it was too long ago, gets only what has no
// pickup. By name it gets whatever it wants.
func TestAnyWithoutAKnownPosition(t *testing.T) {
	const none = "No open bookings without a pickup, and your position is unknown or too old. " +
		"Report it with PUT /position and try again, or accept a booking by its id."
	for name, before := range map[string]func(e *env){
		"never reported": func(*env) {},
		"old": func(e *env) {
			e.at(rita, here)
			e.ahead.Store(int64(61 * time.Second))
		},
		"only said to be online": func(e *env) { e.call("POST", "/online", e.rider(rita), "") },
		"old, and said to be online since": func(e *env) {
			e.at(rita, here)
			e.ahead.Store(int64(61 * time.Second))
			e.call("POST", "/online", e.rider(rita), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			before(e)
			far, near := e.bookAt(north(5_000_000)), e.bookAt(north(10))
			first, second := e.book(), e.book()
			for _, id := range []booking.ID{first, second} {
				won(t, e.accept(rita, "{}"), rita, id)
				e.finish(rita, id)
			}
			webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, none)
			won(t, e.accept(rita, named(far)), rita, far)
			e.finish(rita, far)
			e.at(rita, here)
			won(t, e.accept(rita, "{}"), rita, near)
			e.finish(rita, near)
			webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
		})
	}
}

// What is lost is passed over for the next nearest, beyond any number of those that the rider
// cannot have.
func TestAnyGoesOnToTheNextNearest(t *testing.T) {
	e := newEnv(t)
	e.at(rita, here)
	for i := range 200 {
		id := e.bookAt(north(float64(i)))
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rita), id))
		e.do(e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""))
	}
	lost, next, last := e.bookAt(north(300)), e.bookAt(north(400)), e.book()
	e.ledger.Then(func() {
		e.ledger.Hold()
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), lost))
		e.ledger.Then(func() { e.ledger.Release(t) }) // at the next look
	})
	won(t, e.accept(rita, "{}"), rita, next)
	e.finish(rita, next)
	won(t, e.accept(rita, "{}"), rita, last)
	if w := e.accept(rita, "{}"); !strings.HasPrefix(w.Body.String(), noneOpen) {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
}

// fix reports a position as a phone does, and returns why it is ignored, if it is.
func (e *env) fix(rider string, p booking.Place, more string) any {
	e.t.Helper()
	body := fmt.Sprintf(`{"lat":%v,"lng":%v%s}`, p.Lat, p.Lng, more)
	return webtest.Object(e.t, e.call("PUT", "/position", e.rider(rider), body))["ignored"]
}

// at is the field of a position that says when the rider was there.
func fixedAt(t time.Time) string { return `,"at":"` + t.UTC().Format(time.RFC3339Nano) + `"` }

// A position that is late, repeated, too inaccurate or too far from the last one changes nothing,
// and is told to nobody.
func TestPositionIgnored(t *testing.T) {
	e := newEnv(t)
	seconds := func(n int) time.Time { return e.now().Add(time.Duration(n) * time.Second) }
	first := fixedAt(seconds(-20))
	for _, c := range []struct {
		place booking.Place
		more  string
		want  any
	}{
		{here, first, nil},
		{here, first, "late"}, // a retry
		{north(100), fixedAt(seconds(-25)), "late"},
		{north(100), fixedAt(seconds(-10)) + `,"accuracy":12.5`, nil},
		{north(5000), fixedAt(seconds(-8)), "leap"},
		{booking.Place{Lat: -33, Lng: 151}, fixedAt(seconds(-7)), "leap"},
		{north(120), fixedAt(seconds(-6)) + `,"accuracy":501`, "coarse"},
		{north(200), fixedAt(seconds(3)), nil}, // by a clock that is a little ahead
		{north(210), `,"at":null,"accuracy":null`, nil},
	} {
		told := len(e.told)
		if got := e.fix(rita, c.place, c.more); got != c.want || (len(e.told) > told) != (c.want == nil) {
			t.Errorf("%v%s is ignored: %v, want %v; others were told: %v", c.place, c.more, got, c.want,
				len(e.told) > told)
		}
	}
	if p, ok := e.fleet.Where(rita); !ok || p.Place != north(210) {
		t.Errorf("the rider is at %+v, %v", p, ok)
	}
}

// Offline is offline: no booking is accepted until the rider says to be online, also at an instance
// that has just started and by whatever position is reported there.
func TestOfflineAcceptsNothing(t *testing.T) {
	e := newEnv(t)
	nowhere, near := e.book(), e.bookAt(here)
	e.at(rita, here)
	webtest.Object(t, e.call("POST", "/offline", e.rider(rita), ""))
	refused := func(when string) {
		t.Helper()
		for _, body := range []string{"", "{}", named(nowhere), named(near)} {
			webtest.Refused(t, e.accept(rita, body), http.StatusConflict, ridersvc.ErrOffline.Message)
		}
		if e.fleet.Online(rita) {
			t.Errorf("%s the rider counts as online", when)
		}
	}
	refused("after POST /offline")
	e.nothingTried()
	e.serve(e.own) // a restart
	refused("after a restart")
	if v := webtest.Object(t, e.call("PUT", "/position", e.rider(rita),
		fmt.Sprintf(`{"lat":%v,"lng":%v}`, here.Lat, here.Lng))); v["online"] != false {
		t.Errorf("a report after a restart is answered with %v", v)
	}
	if s := e.told[len(e.told)-1]; s.Online || s.Said < 2 {
		t.Errorf("the other instances are told %+v", s)
	}
	refused("after a report")
	webtest.Object(t, e.call("POST", "/online", e.rider(rita), ""))
	won(t, e.accept(rita, "{}"), rita, near)

	// What the rider has already it keeps, and a retry is told so.
	webtest.Object(t, e.call("POST", "/offline", e.rider(rita), ""))
	won(t, e.accept(rita, named(near)), rita, near)
	stepped(t, e.post(rita, near, "arrive", ""), "Arrival noted", near, booking.StateArrived)
}

// While nobody can tell whether a rider is offline it is not taken for online, and accepts nothing.
func TestWithoutTheRoster(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.roster.away = bus.ErrUnavailable.Because(errors.New("away"))
	for _, w := range []*httptest.ResponseRecorder{
		e.accept(rita, "{}"), e.accept(rita, named(id)), e.call("PUT", "/position", e.rider(rita), `{"lat":1,"lng":2}`),
		e.call("POST", "/offline", e.rider(rita), ""), e.call("POST", "/online", e.rider(rita), ""),
	} {
		later(t, w, bus.ErrUnavailable.Message)
	}
	if known, _ := e.fleet.Count(); known != 0 {
		t.Error("the rider is on the map")
	}
	e.nothingTried()
}

// To arrive at a pickup a rider must be seen there, by a position that is not too old; where there
// is no pickup none is needed.
func TestArriveAtThePickup(t *testing.T) {
	e := newEnv(t)
	id := e.bookAt(here)
	won(t, e.accept(rita, named(id)), rita, id)
	arrive := func() *httptest.ResponseRecorder {
		return e.post(rita, id, "arrive", "", "Idempotency-Key", booking.NewID())
	}
	tooFar := "You are 100.0 km from the pickup. Arrival requires a position within 500 m of it. " +
		"When you are there, report your position with PUT /position and try again."
	webtest.Refused(t, arrive(), http.StatusConflict, ridersvc.ErrWhereabouts.Message)
	e.at(rita, north(100_000))
	webtest.Refused(t, arrive(), http.StatusConflict, tooFar)
	e.at(rita, north(100_010)) // it is there, then
	if got := e.fix(rita, here, ""); got != "leap" {
		t.Errorf("a leap of 100 km is %v", got)
	}
	webtest.Refused(t, arrive(), http.StatusConflict, tooFar)
	e.ahead.Store(int64(61 * time.Second))
	webtest.Refused(t, arrive(), http.StatusConflict, ridersvc.ErrWhereabouts.Message)
	e.at(rita, north(499)) // this confirms what seemed to be a leap
	stepped(t, arrive(), "Arrival noted", id, booking.StateArrived)
}

// One wrong first position shuts out no right one.
func TestArriveAfterAWrongFirstPosition(t *testing.T) {
	e := newEnv(t)
	id := e.bookAt(here)
	e.at(rita, booking.Place{Lat: 52, Lng: 13})
	won(t, e.accept(rita, named(id)), rita, id)
	e.at(rita, north(20))
	stepped(t, e.post(rita, id, "arrive", ""), "Arrival noted", id, booking.StateArrived)
}

// What a rider has just reported to another instance is waited for.
func TestArriveHearsOfOtherInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		id := e.bookAt(here)
		won(t, e.accept(rita, named(id)), rita, id)
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- e.post(rita, id, "arrive", "") }()
		for i, place := range []booking.Place{north(760), north(670), north(580), north(490)} {
			synctest.Wait()
			if len(answer) > 0 {
				t.Fatalf("it is answered already: %s", (<-answer).Body)
			}
			if _, err := e.fleet.Learn(fleet.Status{Rider: rita, Place: place, At: e.now().UnixMilli() + int64(i),
				Online: true}); err != nil {
				t.Error(err)
			}
		}
		stepped(t, <-answer, "Arrival noted", id, booking.StateArrived)
	})
}
