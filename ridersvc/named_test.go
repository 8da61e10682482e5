package ridersvc_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/web/webtest"
)

func TestAcceptAnswersAsTheOriginal(t *testing.T) {
	for _, body := range []string{"{}", "named"} {
		e := newEnv(t)
		id := e.bookTrip(booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 3, Lng: 4}})
		if body == "named" {
			body = named(id)
		}
		e.at(rita, booking.Place{Lat: 1, Lng: 2})
		w := e.call("POST", "/accept-booking", e.rider(rita), body, "Content-Type", "application/json")
		const begins = `{"success":true,"message":"Booking accepted","raider":"rita@example.com","booking_id":"`
		if !strings.HasPrefix(w.Body.String(), begins) {
			t.Errorf("answer %s, want %s...", w.Body, begins)
		}
		won(t, w, rita, id)
		want := []string{"booking_id", "currency", "distance_m", "dropoff", "fare", "message", "minutes", "pickup",
			"raider", "state", "success", "updated_at"}
		if got := webtest.Names(webtest.Object(t, w)); !slices.Equal(got, want) {
			t.Errorf("fields %v, want %v", got, want)
		}
		if b, err := e.desk.Show(t.Context(), id); err != nil || b.Rider != rita || b.State != booking.StateAccepted {
			t.Errorf("the ledger has %+v, %v", b, err)
		}
	}
}

// Real curl users send a form type with -d '{}', or nothing at all.
func TestAcceptBodies(t *testing.T) {
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		says       string // part of the sentence
	}{
		{"nothing", "", nil, 200, ""},
		{"nothing, declared as JSON", "", []string{"Content-Type", "application/json"}, 200, ""},
		{"an object in a form", "{}", form, 200, ""},
		{"spaces", " \n\t ", form, 200, ""},
		{"spaces inside", "{ \n }", nil, 200, ""},

		{"a form", "booking_id=x", form, 400, "JSON"},
		{"a list", "[]", nil, 400, "object"},
		{"null", "null", nil, 400, "object"},
		{"cut short", `{"booking_id":`, nil, 400, "JSON"},
		{"two objects", "{}{}", nil, 400, "nothing after"},
		{"an unknown field", `{"booking":"` + wrong + `"}`, nil, 400, `"booking"`},
		{"another case", `{"Booking_ID":"` + wrong + `"}`, nil, 400, `"Booking_ID"`},
		{"twice", `{"booking_id":"` + wrong + `","booking_id":"` + wrong + `"}`, nil, 400, `"booking_id"`},
		{"too large", `{"booking_id":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "too large"},

		// A rider who names a booking means that one, and must not be given another.
		{"a null name", `{"booking_id":null}`, nil, 400, "26 characters"},
		{"an empty name", `{"booking_id":""}`, nil, 400, "26 characters"},
		{"a short name", `{"booking_id":"x"}`, nil, 400, "26 characters"},
		{"capitals", named(booking.ID(strings.ToUpper(wrong))), nil, 400, "26 characters"},
		{"a wildcard", named(booking.ID(wrong[:25] + "*")), nil, 400, "26 characters"},
		{"NUL", `{"booking_id":"\u0000"}`, nil, 400, "characters"},
		{"a number", `{"booking_id":1}`, nil, 400, "must be text"},
		{"a list of names", `{"booking_id":["` + wrong + `"]}`, nil, 400, "must be text"},
		{"an object", `{"booking_id":{"a":1}}`, nil, 400, "must be text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			id := e.book()
			w := e.call("POST", "/accept-booking", e.rider(rita), c.body, c.headers...)
			if c.status == http.StatusOK {
				won(t, w, rita, id)
				return
			}
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("answer %d %q, want %d with %q", w.Code, w.Body, c.status, c.says)
			}
			e.nothingTried()
		})
	}
}

// A named booking that is lost: the status and the sentence say why, also where the first look was
// a stale one.
func TestNamedLosses(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(e *env, id booking.ID)
		status int
		says   string
	}{
		{"accepted", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rolf), id))
		}, 409, booking.ErrAlreadyAccepted.Message},
		{"under way", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rolf), id))
			e.do(e.desk.Arrive(e.t.Context(), command(booking.Rider, rolf), id))
			e.do(e.desk.Start(e.t.Context(), command(booking.Rider, rolf), id))
		}, 409, booking.ErrAlreadyAccepted.Message},
		{"completed", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rolf), id))
			e.do(e.desk.Arrive(e.t.Context(), command(booking.Rider, rolf), id))
			e.do(e.desk.Start(e.t.Context(), command(booking.Rider, rolf), id))
			e.do(e.desk.Complete(e.t.Context(), command(booking.Rider, rolf), id))
		}, 409, booking.ErrCompleted.Message},
		{"cancelled", func(e *env, id booking.ID) {
			e.do(e.desk.Cancel(e.t.Context(), command(booking.User, ulla), id, ""))
		}, 409, booking.ErrCancelled.Message},
		{"expired", func(e *env, id booking.ID) {
			e.ahead.Store(int64(2 * deadline))
			e.do(e.desk.Expire(e.t.Context(), command(booking.Service, cron), id))
		}, 409, booking.ErrExpired.Message},
		{"overdue", func(e *env, _ booking.ID) {
			e.ahead.Store(int64(2 * deadline))
		}, 409, booking.ErrExpired.Message},
		{"given back", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rita), id))
			e.do(e.desk.Release(e.t.Context(), command(booking.Rider, rita), id, ""))
		}, 409, booking.ErrReleasedByYou.Message},
		{"rider busy", func(e *env, _ booking.ID) {
			e.ledger.Before = func(context.Context, booking.ID) error { return booking.ErrRiderBusy }
		}, 409, booking.ErrRiderBusy.Message},
		{"outcome unknown", func(e *env, _ booking.ID) {
			e.ledger.Before = func(context.Context, booking.ID) error { return ledger.ErrOutcomeUnknown }
		}, 503, unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t, bookingtest.WithStaleReads(3))
			id := e.book()
			c.happen(e, id)
			webtest.Refused(t, e.accept(rita, named(id)), c.status, c.says)
		})
	}
	e := newEnv(t)
	e.book()
	webtest.Refused(t, e.accept(rita, named(wrong)), http.StatusNotFound, booking.ErrNotFound.Message)
}

func TestNamedAgain(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	won(t, e.accept(rita, named(id)), rita, id)
	won(t, e.accept(rita, named(id)), rita, id)
	if h, err := e.ledger.Load(t.Context(), id, booking.Fresh); err != nil || len(h.Events) != 2 {
		t.Errorf("%d events are stored, want 2: %v", len(h.Events), err)
	}
}

// A named booking needs no board.
func TestNamedWithoutABoard(t *testing.T) {
	e := newEnv(t)
	e.unready = ledger.ErrNotCaughtUp
	e.ledger.Hold()
	id := e.book()
	won(t, e.accept(rita, named(id)), rita, id)
}
