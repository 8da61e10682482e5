package usersvc_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// The passenger can read the start code again as long as the ride has not begun; after a release it
// is another one.
func TestStartCode(t *testing.T) {
	e := newEnv(t)
	id := e.book(ulla)
	code := func() string {
		t.Helper()
		v := webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
		s, _ := v["start_code"].(string)
		return s
	}
	first := code()
	if !regexp.MustCompile(`^[0-9]{4}$`).MatchString(first) {
		t.Fatalf("the start code is %q", first)
	}
	e.bring(id, booking.StateArrived)
	if got := code(); got != first {
		t.Errorf("the start code has changed to %q", got)
	}
	if _, err := e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""); err != nil {
		t.Fatal(err)
	}
	if code() == first {
		// once in 10,000 runs by chance
		t.Error("the start code is still the one that the first rider may have heard")
	}
	over := e.book(ulla)
	e.bring(over, booking.StateStarted)
	if w := e.call("GET", "/bookings/"+string(over), e.user(ulla), ""); strings.Contains(w.Body.String(),
		"start_code") {
		t.Errorf("under way: %s", w.Body)
	}
	if log := e.log.String(); strings.Contains(log, `"`+first+`"`) {
		t.Error("the log has the start code in it")
	}
}

func TestRate(t *testing.T) {
	e := newEnv(t)
	id := e.book(ulla)
	rate := func(body string, headers ...string) (int, string) {
		w := e.call("POST", "/bookings/"+string(id)+"/rate", e.user(ulla), body, headers...)
		return w.Code, w.Body.String()
	}
	if status, says := rate(`{"stars":5}`); status != http.StatusConflict ||
		!strings.Contains(says, "once it is over") {
		t.Errorf("before the ride: %d %s", status, says)
	}
	e.bring(id, booking.StateCompleted)
	for _, body := range []string{`{}`, `{"stars":0}`, `{"stars":6}`, `{"stars":-1}`, `{"stars":"5"}`,
		`{"stars":4.5}`} {
		if status, _ := rate(body); status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, status)
		}
	}
	for range 2 {
		if status, says := rate(`{"stars":5}`, "Idempotency-Key", "k"); status != http.StatusOK ||
			!strings.Contains(says, `"user_stars":5`) {
			t.Errorf("answer %d %s", status, says)
		}
	}
	if status, _ := rate(`{"stars":1}`, "Idempotency-Key", "k"); status != http.StatusUnprocessableEntity {
		t.Errorf("the same key for another rating: %d", status)
	}
	if status, says := rate(`{"stars":1}`); status != http.StatusConflict || says != booking.ErrAlreadyRated.Message {
		t.Errorf("another rating: %d %s", status, says)
	}
}
