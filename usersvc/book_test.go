package usersvc_test

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/webtest"
)

func TestBookAnswersAsTheOriginal(t *testing.T) {
	e := newEnv(t)
	w := e.call("POST", "/book", e.user(ulla), "{}", "Content-Type", "application/json")
	const begins = `{"success":true,"message":"Booking successful","user":"ulla@example.com","booking_id":"`
	if !strings.HasPrefix(w.Body.String(), begins) {
		t.Errorf("answer %s, want %s...", w.Body, begins)
	}
	v := webtest.Object(t, w)
	want := []string{"booking_id", "deadline", "message", "requested_at", "start_code", "state", "success",
		"updated_at", "user"}
	if got := webtest.Names(v); !slices.Equal(got, want) {
		t.Errorf("fields %v, want %v", got, want)
	}
	if v["state"] != "open" {
		t.Errorf("state %v", v["state"])
	}
	until, err := time.Parse(time.RFC3339Nano, v["deadline"].(string))
	if left := time.Until(until); err != nil || left < deadline-time.Minute || left > deadline {
		t.Errorf("deadline %v (%v), want %s from now", v["deadline"], err, deadline)
	}
	b, err := e.desk.Show(t.Context(), booking.ID(v["booking_id"].(string)))
	if err != nil || b.User != ulla || b.State != booking.StateOpen {
		t.Errorf("the ledger has %+v, %v", b, err)
	}
}

// Real curl users send a form type with -d '{}', or nothing at all.
func TestBookBodies(t *testing.T) {
	const trip = `{"pickup":{"lat":12.9716,"lng":77.5946},"dropoff":{"lat":12.9352,"lng":77.6245}}`
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
		{"a trip", trip, nil, 200, ""},
		{"a trip in a form", trip, form, 200, ""},
		{"a trip of nulls", `{"pickup":null,"dropoff":null}`, nil, 200, ""},
		{"zeroes are a place", `{"pickup":{"lat":0,"lng":0},"dropoff":{"lat":0.5,"lng":-0}}`, nil, 200, ""},

		{"a form", "pickup=here", form, 400, "JSON"},
		{"a list", "[]", nil, 400, "object"},
		{"null", "null", nil, 400, "object"},
		{"text", `"{}"`, nil, 400, "object"},
		{"cut short", `{"pickup":`, nil, 400, "JSON"},
		{"two objects", "{}{}", nil, 400, "nothing after"},
		{"trailing text", "{} x", nil, 400, "nothing after"},
		{"an unknown field", `{"user":"` + uwe + `"}`, nil, 400, `"user"`},
		{"an unknown field of a place", `{"pickup":{"lat":1,"lng":1,"alt":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, `"pickup.alt"`},
		{"another case", `{"PICKUP":{"lat":1,"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, `"PICKUP"`},
		{"a field twice", `{"pickup":{"lat":1,"lng":1},"pickup":{"lat":2,"lng":2},"dropoff":{"lat":1,"lng":1}}`, nil, 400, `"pickup"`},
		{"a number twice", `{"pickup":{"lat":1,"lng":1,"lat":2},"dropoff":{"lat":1,"lng":1}}`, nil, 400, `"pickup.lat"`},
		{"NUL", "{\"pickup\":\"\\u0000\"}", nil, 400, ""},
		{"not UTF-8", "{\"\xff\":1}", nil, 400, "UTF-8"},
		{"too large", `{"pickup":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "too large"},
		{"deep", strings.Repeat(`{"pickup":`, 5000), nil, 400, ""},

		{"pickup alone", `{"pickup":{"lat":1,"lng":1}}`, nil, 400, "both pickup and dropoff"},
		{"dropoff alone", `{"pickup":null,"dropoff":{"lat":1,"lng":1}}`, nil, 400, "both pickup and dropoff"},
		{"no lat", `{"pickup":{"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, "both lat and lng"},
		{"no lng", `{"pickup":{"lat":1,"lng":1},"dropoff":{"lat":1}}`, nil, 400, "both lat and lng"},
		{"lat is null", `{"pickup":{"lat":null,"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, "both lat and lng"},
		{"an empty place", `{"pickup":{},"dropoff":{}}`, nil, 400, "both lat and lng"},
		{"lat as text", `{"pickup":{"lat":"1","lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, "a number"},
		{"a place as a list", `{"pickup":[1,1],"dropoff":[1,1]}`, nil, 400, "an object"},
		{"north of north", `{"pickup":{"lat":90.001,"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, "-90 to 90"},
		{"west of west", `{"pickup":{"lat":1,"lng":1},"dropoff":{"lat":1,"lng":-180.5}}`, nil, 400, "-180 to 180"},
		{"beyond numbers", `{"pickup":{"lat":1e999,"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, ""},
		{"not a number", `{"pickup":{"lat":NaN,"lng":1},"dropoff":{"lat":1,"lng":1}}`, nil, 400, "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			w := e.call("POST", "/book", e.user(ulla), c.body, c.headers...)
			if w.Code != c.status {
				t.Fatalf("answer %d %q, want %d", w.Code, w.Body, c.status)
			}
			if c.status == http.StatusOK {
				return
			}
			if c.says != "" && !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("sentence %q does not say %q", w.Body, c.says)
			}
			e.nothingStored()
		})
	}
}

func TestBookKeepsTheTrip(t *testing.T) {
	e := newEnv(t)
	v := webtest.Object(t, e.call("POST", "/book", e.user(ulla),
		`{"pickup":{"lat":12.9716,"lng":77.5946},"dropoff":{"lat":12.9352,"lng":77.6245}}`))
	want := map[string]any{
		"pickup":  map[string]any{"lat": 12.9716, "lng": 77.5946},
		"dropoff": map[string]any{"lat": 12.9352, "lng": 77.6245},

		// 8 minutes and 38 seconds
		"distance_m": 5185.0, "minutes": 9.0, "fare": 100.0 + 259 + 104, "currency": "EUR",
	}
	shown := webtest.Object(t, e.call("GET", "/bookings/"+v["booking_id"].(string), e.user(ulla), ""))
	for where, got := range map[string]map[string]any{"answer": v, "booking": shown} {
		maps.DeleteFunc(got, func(name string, _ any) bool { return want[name] == nil })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("trip in the %s (-want +got):\n%s", where, diff)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	const trip = `{"pickup":{"lat":1,"lng":2},"dropoff":{"lat":1.3,"lng":2.4}}`
	e := newEnv(t)
	id := func(user, body, key string) string {
		t.Helper()
		return webtest.Object(t, e.call("POST", "/book", e.user(user), body, "Idempotency-Key",
			key))["booking_id"].(string)
	}
	first := id(ulla, trip, "k1")
	if again := id(ulla, trip, "k1"); again != first {
		t.Errorf("a retry booked another ride: %s, then %s", first, again)
	}
	if quoted := id(ulla, trip, `"k1"`); quoted != first {
		t.Error("the same key in quotes is another key")
	}
	if id(ulla, trip, "k2") == first {
		t.Error("another key met the same booking")
	}
	if id(uwe, trip, "k1") == first {
		t.Error("another user's key met the same booking")
	}
	if one, other := e.book(ulla), e.book(ulla); one == other {
		t.Error("without a key two bookings are one")
	}
	if n := e.ledger.Appended(); n != 5 {
		t.Errorf("%d events are stored, want 5", n)
	}

	for _, body := range []string{"{}", `{"pickup":{"lat":1,"lng":2},"dropoff":{"lat":1.3,"lng":2.5}}`} {
		w := e.call("POST", "/book", e.user(ulla), body, "Idempotency-Key", "k1")
		webtest.Refused(t, w, http.StatusUnprocessableEntity, booking.ErrKeyReused.Message)
	}

	e.bring(booking.ID(first), booking.StateAccepted)
	v := webtest.Object(t, e.call("POST", "/book", e.user(ulla), trip, "Idempotency-Key", "k1"))
	if v["booking_id"] != first || v["state"] != "accepted" || v["raider_id"] != rita {
		t.Errorf("a retry after the accept was told %v", v)
	}
}

func TestIdempotencyKeyAfterALostAck(t *testing.T) {
	lost := true
	e := newEnv(t, bookingtest.WithLostAcks(func() bool { defer func() { lost = false }(); return lost }))
	later(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k"))
	first := webtest.Object(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k"))
	again := webtest.Object(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k"))
	if first["booking_id"] != again["booking_id"] {
		t.Errorf("two bookings: %v and %v", first, again)
	}
}

func TestBadIdempotencyKeys(t *testing.T) {
	e := newEnv(t)
	for _, keys := range [][]string{
		{""}, {`""`}, {"a b"}, {"ä"}, {"a\x7f"}, {"a\x00"}, {strings.Repeat("k", 129)}, {`"open`}, {"k", "k"},
	} {
		var headers []string
		for _, key := range keys {
			headers = append(headers, "Idempotency-Key", key)
		}
		for _, target := range []string{"/book", "/bookings/" + wrong + "/cancel"} {
			if w := e.call("POST", target, e.user(ulla), "{}", headers...); w.Code != http.StatusBadRequest {
				t.Errorf("%s with keys %q: answer %d %q", target, keys, w.Code, w.Body)
			}
		}
	}
	e.nothingStored()
}

func TestBookWhenTheLedgerIsFull(t *testing.T) {
	e := newEnv(t)
	known := webtest.Object(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k"))
	e.ledger.Fill(ledger.ErrFull)
	stored := e.ledger.Appended()
	for _, headers := range [][]string{nil, {"Idempotency-Key", "other"}} {
		w := e.call("POST", "/book", e.user(ulla), "{}", headers...)
		webtest.Refused(t, w, http.StatusServiceUnavailable, ledger.ErrFull.Message)
		later(t, w)
	}
	if e.ledger.Appended() != stored {
		t.Error("a booking was stored")
	}
	again := webtest.Object(t, e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k"))
	if again["booking_id"] != known["booking_id"] {
		t.Errorf("a retry was told %v", again)
	}
	// rides under way end
	webtest.Object(t, e.call("POST", "/bookings/"+known["booking_id"].(string)+"/cancel", e.user(ulla), "{}"))
}

func TestBookWhenTheLedgerIsAway(t *testing.T) {
	e := newEnv(t)
	e.ledger.Fail(ledger.ErrOutcomeUnknown.Because(errors.New("nats: secret.example.com timed out")))
	w := e.call("POST", "/book", e.user(ulla), "{}")
	webtest.Refused(t, w, http.StatusServiceUnavailable, "We could not confirm in time whether this was recorded. "+
		"GET /bookings shows it if it was. With an Idempotency-Key a request can be sent again without being done twice.")
	later(t, w)
	w = e.call("POST", "/book", e.user(ulla), "{}", "Idempotency-Key", "k")
	webtest.Refused(t, w, http.StatusServiceUnavailable, "We could not confirm in time whether this was recorded. "+
		"Send the same request again with the same Idempotency-Key: it takes effect only once.")
	e.ledger.Fail(errors.New("disk on fire at secret.example.com"))
	w = e.call("POST", "/book", e.user(ulla), "{}")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
}

func TestProblemsForPrograms(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct{ method, target, bearer, body, code string }{
		{"POST", "/book", "", "{}", "missing_authorization"},
		{"POST", "/book", "x", "{}", "invalid_token"},
		{"POST", "/book", e.rider(rita), "{}", "wrong_role"},
		{"POST", "/book", e.user(ulla), `{"pickup":{"lat":1,"lng":1}}`, "invalid_trip"},
		{"GET", "/bookings/" + wrong, e.user(ulla), "", "booking_not_found"},
		{"GET", "/bookings/x", e.user(ulla), "", "invalid_booking_id"},
	} {
		w := e.call(c.method, c.target, c.bearer, c.body, "Accept", "application/json")
		if w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
			t.Errorf("%s %s: answer %s %s, want code %s", c.method, c.target, w.Header().Get("Content-Type"), w.Body, c.code)
		}
	}
}

// Bookings are limited by user, and by nothing else.
func TestBookingsAreLimitedByUser(t *testing.T) {
	e := newEnvWith(t, func(c *usersvc.Config) { c.BookRate = web.Rate{PerMinute: 3} })
	for range 3 {
		e.book(ulla)
	}
	w := e.call("POST", "/book", e.user(ulla), "{}")
	webtest.Refused(t, w, http.StatusTooManyRequests, web.ErrTooMany.Message)
	if w.Header().Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	e.book(uwe)
	if w := e.call("GET", "/bookings", e.user(ulla), ""); w.Code != http.StatusOK {
		t.Errorf("a list is limited as well: %d", w.Code)
	}
}
