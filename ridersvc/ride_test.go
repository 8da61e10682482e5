package ridersvc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// post takes a step of a ride.
func (e *env) post(rider string, id booking.ID, step, body string, headers ...string) *httptest.ResponseRecorder {
	e.t.Helper()
	return e.call("POST", "/bookings/"+string(id)+"/"+step, e.rider(rider), body, headers...)
}

// code returns the start code, as the passenger sees it.
func (e *env) code(id booking.ID) string {
	e.t.Helper()
	b, err := e.desk.Show(e.t.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	return e.desk.StartCode(b)
}

func startBody(code string) string { return `{"start_code":"` + code + `"}` }

func otherThan(code string) string {
	if code == "0000" {
		return "0001"
	}
	return "0000"
}

// stepped fails the test unless w says that.
func stepped(t testing.TB, w *httptest.ResponseRecorder, message string, id booking.ID, state booking.State) {
	t.Helper()
	v := webtest.Object(t, w)
	if v["success"] != true || v["message"] != message || v["booking_id"] != string(id) || v["state"] != string(state) {
		t.Errorf("answer %v, want %q and that %s is %s", v, message, id, state)
	}
	if w.Body.String() != "" && strings.Contains(w.Body.String(), "start_code") {
		t.Errorf("the rider is shown the start code: %s", w.Body)
	}
}

func TestARideToItsEnd(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	won(t, e.accept(rita, "{}"), rita, id)
	stepped(t, e.post(rita, id, "arrive", ""), "Arrival noted", id, booking.StateArrived)
	stepped(t, e.post(rita, id, "start", startBody(e.code(id))), "Ride started", id, booking.StateStarted)
	stepped(t, e.post(rita, id, "complete", "{}"), "Ride completed", id, booking.StateCompleted)
	w := e.post(rita, id, "rate", `{"stars":4}`)
	stepped(t, w, "Ride rated", id, booking.StateCompleted)
	if v := webtest.Object(t, w); v["raider_stars"] != 4.0 {
		t.Errorf("rated %v", v["raider_stars"])
	}
	webtest.Refused(t, e.post(rita, id, "rate", `{"stars":5}`), http.StatusConflict, booking.ErrAlreadyRated.Message)
}

// Every step has its place, and its rider.
func TestStepsOutOfPlace(t *testing.T) {
	bodies := map[string]string{"start": startBody("0000"), "rate": `{"stars":3}`}
	for _, c := range []struct {
		state booking.State
		step  string
		says  error
	}{
		{booking.StateOpen, "arrive", booking.ErrNotFound},
		{booking.StateOpen, "release", booking.ErrNotFound},
		{booking.StateAccepted, "start", booking.ErrWrongState},
		{booking.StateAccepted, "complete", booking.ErrWrongState},
		{booking.StateArrived, "complete", booking.ErrWrongState},
		{booking.StateStarted, "release", booking.ErrWrongState},
		{booking.StateCompleted, "arrive", booking.ErrCompleted},
		{booking.StateCompleted, "start", booking.ErrCompleted},
		{booking.StateCancelled, "arrive", booking.ErrCancelled},
		{booking.StateCancelled, "start", booking.ErrCancelled},
	} {
		t.Run(string(c.state)+" "+c.step, func(t *testing.T) {
			e := newEnv(t)
			id := e.book()
			e.bring(id, c.state)
			body := bodies[c.step]
			problem := func(rider string) string {
				w := e.post(rider, id, c.step, body, "Accept", "application/json")
				if w.Code < 400 {
					t.Errorf("%s by %s: answer %d", c.step, rider, w.Code)
				}
				return w.Body.String()
			}
			if got := problem(rita); !strings.Contains(got, `"code":"`+faultCode(c.says)+`"`) {
				t.Errorf("%s, want %s", got, faultCode(c.says))
			}
			if got := problem(rolf); !strings.Contains(got, `"code":"booking_not_found"`) {
				t.Errorf("another rider is told %s", got)
			}
		})
	}
	e := newEnv(t)
	for _, step := range []string{"arrive", "start", "complete", "release", "rate"} {
		webtest.Refused(t, e.post(rita, wrong, step, bodies[step]), http.StatusNotFound, booking.ErrNotFound.Message)
		webtest.Refused(t, e.post(rita, "x", step, bodies[step]), http.StatusBadRequest, booking.ErrInvalidID.Message)
	}
}

func TestStartCodes(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.bring(id, booking.StateArrived)
	right := e.code(id)
	for _, slip := range []string{`{}`, startBody(""), startBody("123"), startBody("12345"), startBody("12a4"),
		startBody("\u0661234"), `{"start_code":"0x12"}`} {
		if w := e.post(rita, id, "start", slip); w.Code != http.StatusBadRequest {
			t.Errorf("%s: answer %d %q", slip, w.Code, w.Body)
		}
	}
	for left := 4; left >= 0; left-- {
		w := e.post(rita, id, "start", startBody(otherThan(right)))
		says := map[int]string{4: "You have 4 tries left", 1: "You have one try left",
			0: "goes to another raider"}[left]
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), says) {
			t.Errorf("with %d tries left: answer %d %q", left, w.Code, w.Body)
		}
	}
	if w := e.post(rita, id, "start", startBody(right)); w.Code != http.StatusConflict {
		t.Errorf("the right code after five wrong ones: answer %d %q", w.Code, w.Body)
	}
	if log := e.log.String(); strings.Contains(log, right) && right != "2026" {
		t.Error("the log may have the start code in it")
	}
}

// A retry of a try with a wrong code is no other try.
func TestStepsWithAKey(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.bring(id, booking.StateArrived)
	key := []string{"Idempotency-Key", "monday"}
	for range 3 {
		if w := e.post(rita, id, "start", startBody(otherThan(e.code(id))), key...); !strings.Contains(w.Body.String(),
			"4 tries left") {
			t.Errorf("answer %d %q", w.Code, w.Body)
		}
	}
	right := e.code(id)
	for range 2 {
		stepped(t, e.post(rita, id, "start", startBody(right), "Idempotency-Key", "tuesday"), "Ride started", id,
			booking.StateStarted)
	}
	for range 2 {
		stepped(t, e.post(rita, id, "complete", "", key...), "Ride completed", id, booking.StateCompleted)
	}
	for range 2 {
		stepped(t, e.post(rita, id, "rate", `{"stars":5}`, key...), "Ride rated", id, booking.StateCompleted)
	}
	webtest.Refused(t, e.post(rita, id, "rate", `{"stars":1}`, key...), http.StatusUnprocessableEntity,
		booking.ErrKeyReused.Message)
}

// Who repeats a step is told once more what it has come to, without a key too, and nothing is
// stored.
func TestStepsRepeated(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	won(t, e.accept(rita, named(id)), rita, id)
	for _, c := range []struct{ step, body, other string }{
		{"arrive", "", ""}, {"start", startBody(e.code(id)), startBody(otherThan(e.code(id)))}, {"complete", "", ""}, {"rate", `{"stars":4}`, `{"stars":4}`},
	} {
		first := e.post(rita, id, c.step, c.body)
		stored := e.ledger.Appended()
		for _, body := range []string{c.body, c.other} {
			if again := e.post(rita, id, c.step, body); again.Code != http.StatusOK ||
				again.Body.String() != first.Body.String() {
				t.Errorf("%s again: %d %s, want %s", c.step, again.Code, again.Body, first.Body)
			}
		}
		if e.ledger.Appended() != stored {
			t.Errorf("%s again has stored something", c.step)
		}
		webtest.Refused(t, e.post(rolf, id, c.step, c.body), http.StatusNotFound, booking.ErrNotFound.Message)
	}
	webtest.Refused(t, e.post(rita, id, "rate", `{"stars":5}`), http.StatusConflict, booking.ErrAlreadyRated.Message)
}

// Under one key nobody learns anything of a code but what the first try has come to: no answer
// depends on the code that a retry brings.
func TestAKeyIsNoOracle(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.bring(id, booking.StateArrived)
	right := e.code(id)
	try := func(code, key string) string {
		w := e.post(rita, id, "start", startBody(code), "Idempotency-Key", key)
		return fmt.Sprint(w.Code, " ", w.Body)
	}
	first := try(otherThan(right), "monday")
	if !strings.HasPrefix(first, "409 ") || !strings.Contains(first, "4 tries left") {
		t.Fatalf("a wrong code: %s", first)
	}
	for _, code := range []string{right, otherThan(right), right} {
		if got := try(code, "monday"); got != first {
			t.Errorf("a retry with the code right=%v: %s, want %s", code == right, got, first)
		}
	}
	if b, err := e.desk.Show(t.Context(), id); err != nil || b.State != booking.StateArrived || b.WrongCodes != 1 {
		t.Errorf("the booking is %s, with %d wrong codes, %v", b.State, b.WrongCodes, err)
	}
	begun := try(right, "tuesday")
	for _, code := range []string{otherThan(right), right} {
		if got := try(code, "tuesday"); got != begun || !strings.HasPrefix(got, "200 ") {
			t.Errorf("after the start, with the code right=%v: %s, want %s", code == right, got, begun)
		}
	}
	one, other := try(right, "monday"), try(otherThan(right), "monday")
	if one != other || !strings.HasPrefix(one, "409 ") {
		t.Errorf("the first try once more: %s, or %s", one, other)
	}
}

func TestGivingBack(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.bring(id, booking.StateArrived)
	before := e.code(id)
	w := e.post(rita, id, "release", `{"reason":"A puncture."}`, "Idempotency-Key", "k")
	if v := webtest.Object(t, w); len(v) != 4 || v["state"] != "open" || v["booking_id"] != string(id) {
		t.Errorf("answer %v", v)
	}
	if w := e.post(rita, id, "release", `{"reason":"A puncture."}`, "Idempotency-Key", "k"); w.Code != http.StatusOK {
		t.Errorf("again: answer %d %q", w.Code, w.Body)
	}
	webtest.Refused(t, e.post(rita, id, "release", `{"reason":"No."}`, "Idempotency-Key", "k"),
		http.StatusUnprocessableEntity, booking.ErrKeyReused.Message)
	webtest.Refused(t, e.post(rita, id, "arrive", ""), http.StatusConflict, booking.ErrReleasedByYou.Message)
	webtest.Refused(t, e.accept(rita, named(id)), http.StatusConflict, booking.ErrReleasedByYou.Message)
	won(t, e.accept(rolf, "{}"), rolf, id)
	if v := webtest.Object(t, e.post(rita, id, "release", "")); len(v) != 4 || v["state"] != "open" {
		t.Errorf("once more, after another rider has accepted it: %v", v)
	}
	if e.code(id) == before {
		// once in 10,000 runs by chance
		t.Error("the start code is the one that the first rider may have heard")
	}
	e.do(e.desk.Arrive(t.Context(), command(booking.Rider, rolf), id))
	stepped(t, e.post(rolf, id, "start", startBody(e.code(id))), "Ride started", id, booking.StateStarted)
}

// Who has given a booking back, and sends again what it did before, is told what came of that, and
// nothing of the ride that somebody else has now.
func TestRetriesAfterARelease(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	key := []string{"Idempotency-Key", "k"}
	arrive := func() *httptest.ResponseRecorder { return e.post(rita, id, "arrive", "", key...) }
	accept := func() *httptest.ResponseRecorder {
		return e.call("POST", "/accept-booking", e.rider(rita), "{}", key...)
	}
	accepted, arrived := accept().Body.String(), arrive().Body.String()
	e.do(e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""))
	again := func(when string) {
		t.Helper()
		if got := accept().Body.String(); got != accepted {
			t.Errorf("%s the acceptance is told as %s, and was told as %s", when, got, accepted)
		}
		if got := arrive().Body.String(); got != arrived {
			t.Errorf("%s the arrival is told as %s, and was told as %s", when, got, arrived)
		}
	}
	again("while it is open")
	e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), id))
	e.finish(rolf, id)
	again("after another one's ride")
}

// A retry of an acceptance is told that the user has cancelled since.
func TestAcceptedAndCancelled(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	accept := func() *httptest.ResponseRecorder {
		return e.call("POST", "/accept-booking", e.rider(rita), named(id), "Idempotency-Key", "k")
	}
	won(t, accept(), rita, id)
	e.do(e.desk.Cancel(t.Context(), command(booking.User, ulla), id, ""))
	if v := webtest.Object(t, accept()); v["booking_id"] != string(id) || v["state"] != "cancelled" {
		t.Errorf("answer %v", v)
	}
}

// The retry of "any booking" is given the booking that the first try was given, and not the next
// one.
func TestAnyWithAKey(t *testing.T) {
	e := newEnv(t)
	first, second := e.book(), e.book()
	any := func(body string) *httptest.ResponseRecorder {
		return e.call("POST", "/accept-booking", e.rider(rita), body, "Idempotency-Key", "k")
	}
	won(t, any("{}"), rita, first)
	won(t, any("{}"), rita, first)
	for _, other := range []string{named(second), named(first)} {
		webtest.Refused(t, any(other), http.StatusUnprocessableEntity, booking.ErrKeyReused.Message)
	}
	e.finish(rita, first)
	if v := webtest.Object(t, any("{}")); v["booking_id"] != string(first) || v["state"] != "completed" {
		t.Errorf("answer %v", v)
	}
	won(t, e.accept(rita, "{}"), rita, second)
	if v := webtest.Object(t, any("{}")); v["booking_id"] != string(first) {
		t.Errorf("answer %v", v)
	}
}
