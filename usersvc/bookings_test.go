package usersvc_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

func TestShow(t *testing.T) {
	e := newEnv(t, bookingtest.WithStaleReads(100)) // only a fresh read knows anything
	id := e.book(ulla)
	v := webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
	if got, want := webtest.Names(v), []string{"booking_id", "deadline", "requested_at", "start_code", "state",
		"updated_at"}; !slices.Equal(got, want) {
		t.Errorf("fields %v, want %v", got, want)
	}
	if v["booking_id"] != string(id) || v["state"] != "open" {
		t.Errorf("booking %v", v)
	}
	e.bring(id, booking.StateAccepted)
	v = webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
	if v["state"] != "accepted" || v["raider_id"] != rita {
		t.Errorf("after the accept %v", v)
	}
	if _, err := e.desk.Release(t.Context(), command(booking.Rider, rita), id, "The passenger smells."); err != nil {
		t.Fatal(err)
	}
	v = webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
	if got, want := webtest.Names(v), []string{"booking_id", "deadline", "requested_at", "start_code", "state",
		"updated_at"}; !slices.Equal(got, want) {
		t.Errorf("fields after the release %v, want %v", got, want)
	}
}

// Whether a booking is there is its user's business: all others get the very answer of one that is
// not.
func TestOthersLearnNothing(t *testing.T) {
	for _, state := range booking.States()[1:] {
		t.Run(string(state), func(t *testing.T) {
			e := newEnv(t)
			id := e.book(ulla)
			e.bring(id, state)
			stored := e.ledger.Appended()
			for _, c := range []struct{ method, tail, body string }{
				{"GET", "", ""},
				{"POST", "/cancel", ""},
				{"POST", "/cancel", `{"reason":"mine"}`},
				{"POST", "/rate", `{"stars":1}`},
				{"POST", "/cancel", `{"reason":"` + strings.Repeat("x", booking.MaxReason+1) + `"}`},
			} {
				theirs := e.call(c.method, "/bookings/"+string(id)+c.tail, e.user(uwe), c.body, "X-Request-Id", "r")
				none := e.call(c.method, "/bookings/"+wrong+c.tail, e.user(uwe), c.body, "X-Request-Id", "r")
				webtest.Refused(t, theirs, http.StatusNotFound, booking.ErrNotFound.Message)
				webtest.Refused(t, none, http.StatusNotFound, booking.ErrNotFound.Message)
				if diff := cmp.Diff(none.Header(), theirs.Header()); diff != "" {
					t.Errorf("%s %s: the answers' headers differ:\n%s", c.method, c.tail, diff)
				}
			}
			if e.ledger.Appended() != stored {
				t.Error("something was stored")
			}
		})
	}
}

func TestMalformedIDs(t *testing.T) {
	e := newEnv(t)
	for _, id := range []string{
		"x", strings.ToUpper(wrong), wrong + "a", wrong[1:], wrong[:25] + "1", wrong[:25] + "*", "%3E", "..%2f..",
		"ledger.booking", "%00",
		wrong[:24] + "%C3%A4", strings.Repeat("a", 4096),
	} {
		for _, c := range []struct{ method, tail string }{{"GET", ""}, {"POST", "/cancel"}} {
			w := e.call(c.method, "/bookings/"+id+c.tail, e.user(ulla), "")
			webtest.Refused(t, w, http.StatusBadRequest, booking.ErrInvalidID.Message)
		}
	}
}

func TestCancel(t *testing.T) {
	const reason = "The rain has stopped."
	for _, c := range []struct {
		state    booking.State
		status   int
		sentence string // empty: whatever
	}{
		{booking.StateOpen, 200, ""},
		{booking.StateAccepted, 200, ""},
		{booking.StateArrived, 200, ""},
		{booking.StateStarted, 409, ""},
		{booking.StateCompleted, 409, booking.ErrCompleted.Message},
		{booking.StateCancelled, 409, booking.ErrCancelled.Message},
		{booking.StateExpired, 409, booking.ErrExpired.Message},
	} {
		t.Run(string(c.state), func(t *testing.T) {
			e := newEnv(t)
			id := e.book(ulla)
			e.bring(id, c.state)
			w := e.call("POST", "/bookings/"+string(id)+"/cancel", e.user(ulla), `{"reason":"`+reason+`"}`)
			if c.status != http.StatusOK {
				sentence := c.sentence
				if sentence == "" {
					sentence = w.Body.String()
				}
				webtest.Refused(t, w, c.status, sentence)
				return
			}
			v := webtest.Object(t, w)
			if v["success"] != true || v["message"] != "Booking cancelled" || v["state"] != "cancelled" ||
				v["reason"] != reason {
				t.Errorf("answer %v", v)
			}
			if b, err := e.desk.Show(t.Context(), id); err != nil || b.State != booking.StateCancelled ||
				b.Reason != reason {
				t.Errorf("the ledger has %+v, %v", b, err)
			}
		})
	}
}

func TestCancelBodies(t *testing.T) {
	long := strings.Repeat("ä", booking.MaxReason)
	for _, c := range []struct {
		name, body, says string
		status           int
	}{
		{"nothing", "", "", 200},
		{"an empty object", "{}", "", 200},
		{"an empty reason", `{"reason":""}`, "", 200},
		{"null", `{"reason":null}`, "", 200},
		{"the longest reason", `{"reason":"` + long + `"}`, "", 200},
		{"one character more", `{"reason":"` + long + `ä"}`, "280", 400},
		{"a line feed", `{"reason":"a\nb"}`, "control", 400},
		{"a line feed at the end", `{"reason":"a\n"}`, "control", 400},
		{"a line separator", `{"reason":"a\u2028b"}`, "formatting", 400},
		{"a paragraph separator", `{"reason":"a\u2029"}`, "formatting", 400},
		{"a bidi override", `{"reason":"a\u202eb"}`, "formatting", 400},
		{"a bidi isolate", `{"reason":"a\u2066b\u2069"}`, "formatting", 400},
		{"a zero-width space", `{"reason":"a\u200bb"}`, "formatting", 400},
		{"a byte order mark", `{"reason":"\ufeffa"}`, "formatting", 400},
		{"a soft hyphen", `{"reason":"a\u00adb"}`, "formatting", 400},
		{"a tag", `{"reason":"a\udb40\udc61"}`, "formatting", 400},
		{"emoji", `{"reason":"👩‍🚀 ❤️"}`, "", 200},
		{"no-break spaces", `{"reason":"\u00a0\u3000"}`, "", 200},
		{"NUL", `{"reason":"\u0000"}`, "characters", 400},
		{"half a pair", `{"reason":"\ud800"}`, "characters", 400},
		{"a number", `{"reason":1}`, "text", 400},
		{"an unknown field", `{"reasons":"x"}`, `"reasons"`, 400},
		{"another case", `{"Reason":"x"}`, `"Reason"`, 400},
		{"twice", `{"reason":"x","reason":"y"}`, `"reason"`, 400},
		{"too large", `{"reason":"` + strings.Repeat("x", 64<<10) + `"}`, "too large", 413},
		{"not JSON", `reason=x`, "JSON", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			id := e.book(ulla)
			w := e.call("POST", "/bookings/"+string(id)+"/cancel", e.user(ulla), c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("answer %d %q, want %d with %q", w.Code, w.Body, c.status, c.says)
			}
			want := booking.StateOpen
			if c.status == http.StatusOK {
				want = booking.StateCancelled
			}
			if b, err := e.desk.Show(t.Context(), id); err != nil || b.State != want {
				t.Errorf("the booking is %s (%v), want %s", b.State, err, want)
			}
		})
	}
}

func TestCancelAgain(t *testing.T) {
	e := newEnv(t)
	id, other := e.book(ulla), e.book(ulla)
	cancel := func(id booking.ID) *httptest.ResponseRecorder {
		return e.call("POST", "/bookings/"+string(id)+"/cancel", e.user(ulla), "", "Idempotency-Key", "k")
	}
	first, again := webtest.Object(t, cancel(id)), webtest.Object(t, cancel(id))
	if first["success"] != true || again["success"] != true {
		t.Errorf("the first was told %v, its retry %v", first, again)
	}
	if v := webtest.Object(t, cancel(other)); v["booking_id"] != string(other) {
		t.Errorf("the same key on another booking: %v", v)
	}
	stored := e.ledger.Appended()
	// without a key it is the same: done is done
	for _, body := range []string{"", `{"reason":"Another one."}`} {
		if v := webtest.Object(t, e.call("POST", "/bookings/"+string(id)+"/cancel", e.user(ulla), body)); !cmp.Equal(v,
			first) {
			t.Errorf("cancelled once more: %v, want %v", v, first)
		}
	}
	if e.ledger.Appended() != stored {
		t.Error("something was stored")
	}
}

// page is one answer of GET /bookings.
func (e *env) page(user, query string) (ids []booking.ID, next string) {
	e.t.Helper()
	v := webtest.Object(e.t, e.call("GET", "/bookings"+query, e.user(user), ""))
	for _, b := range v["bookings"].([]any) {
		ids = append(ids, booking.ID(b.(map[string]any)["booking_id"].(string)))
	}
	next, _ = v["next_cursor"].(string)
	return ids, next
}

func TestListIsOnesOwnNewestFirst(t *testing.T) {
	e := newEnv(t)
	if w := e.call("GET", "/bookings", e.user(ulla), ""); w.Body.String() != `{"bookings":[]}` {
		t.Errorf("without bookings the answer is %s", w.Body)
	}
	var mine []booking.ID
	for range 7 {
		mine = append(mine, e.book(ulla))
		e.book(uwe)
	}
	slices.Reverse(mine)
	for _, limit := range []string{"1", "3", "7", "100", ""} {
		var got []booking.ID
		for next, i := "", 0; i == 0 || next != ""; i++ {
			query := "?"
			if limit != "" {
				query += "limit=" + limit
			}
			if next != "" {
				query += "&cursor=" + next
			}
			var ids []booking.ID
			ids, next = e.page(ulla, query)
			got = append(got, ids...)
		}
		if !slices.Equal(got, mine) {
			t.Errorf("in pages of %q: %v, want %v", limit, got, mine)
		}
	}
}

func TestListRefusesBadPages(t *testing.T) {
	e := newEnv(t)
	for _, query := range []string{
		"limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=99999999999999999999",
		"cursor=x", "cursor=-1", "cursor=", "cursor=1&cursor=1", "cursor=18446744073709551616", "limit=%zz",
	} {
		if w := e.call("GET", "/bookings?"+query, e.user(ulla), ""); w.Code != http.StatusBadRequest {
			t.Errorf("?%s: answer %d %q", query, w.Code, w.Body)
		}
	}
}

func TestListWaitsForOnesOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.ledger.Hold()
		id := e.book(ulla)
		got := make(chan []booking.ID)
		go func() {
			ids, _ := e.page(ulla, "")
			got <- ids
		}()
		synctest.Wait()
		select {
		case ids := <-got:
			t.Fatalf("the list did not wait for the board: %v", ids)
		default:
		}
		e.ledger.Release(t)
		if ids := <-got; !slices.Equal(ids, []booking.ID{id}) {
			t.Errorf("the list is %v, want %v", ids, id)
		}
	})
}

func TestListGivesUpOnABoardThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.ledger.Hold()
		e.book(ulla)
		begun := time.Now()
		w := e.call("GET", "/bookings", e.user(ulla), "")
		webtest.Refused(t, w, http.StatusServiceUnavailable, bookings.ErrCatchingUp.Message)
		later(t, w)
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestListUntilTheBoardIsReady(t *testing.T) {
	e := newEnv(t)
	id := e.book(ulla)
	e.unready = ledger.ErrNotCaughtUp
	w := e.call("GET", "/bookings", e.user(ulla), "")
	webtest.Refused(t, w, http.StatusServiceUnavailable, bookings.ErrCatchingUp.Message)
	later(t, w)
	// What does not come from the board goes on.
	webtest.Object(t, e.call("POST", "/book", e.user(ulla), ""))
	webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
	webtest.Object(t, e.call("POST", "/bookings/"+string(id)+"/cancel", e.user(ulla), ""))
	e.unready = nil
	if ids, _ := e.page(ulla, ""); len(ids) != 2 {
		t.Errorf("%d bookings, want 2", len(ids))
	}
}

func TestMethods(t *testing.T) {
	e := newEnv(t)
	if w := e.call("HEAD", "/bookings", e.user(ulla), ""); w.Code != http.StatusOK {
		t.Errorf("HEAD: answer %d", w.Code)
	}
	w := e.call("DELETE", "/book", e.user(ulla), "")
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("DELETE /book: answer %d %q, Allow %q", w.Code, w.Body, w.Header().Get("Allow"))
	}
}
