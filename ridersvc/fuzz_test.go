package ridersvc_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// Whatever the body, a rider is given the booking that it names, or any where it names none, or
// none at all. ID in the body stands for a booking that is open, behind another.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{
		"", " ", "{}", "[]", "null", "{}{}", `{"booking_id":"ID"}`, `{"booking_id":null}`, `{"booking_id":""}`,
		`{"booking_id":1}`,
		`{"Booking_id":"ID"}`, `{"booking_id":"ID","booking_id":"ID"}`, `{"booking\u005fid":"ID"}`,
		`{"booking_id":"nosuchbookingnosuchbooking"}`,
		`{"booking_id":"ID\u0000"}`, `{"booking_id":["ID"]}`, `{"booking_id":{"id":"ID"}}`, `{"booking_id":"ID"} x`,
		"{\"booking_id\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	e := newEnv(f)
	bearer := e.rider(rita)
	f.Fuzz(func(t *testing.T, seed []byte) {
		var ids [2]booking.ID
		for i := range ids {
			ids[i] = booking.ID(booking.NewID())
			if _, err := e.desk.Book(t.Context(), command(booking.User, ulla), ids[i], booking.Trip{}); err != nil {
				t.Fatal(err)
			}
		}
		body := strings.ReplaceAll(string(seed), "ID", string(ids[1]))
		tried := e.ledger.Tried()
		w := httptest.NewRecorder()
		e.handler.ServeHTTP(w, webtest.Request("POST", "/accept-booking", bearer, body))
		switch w.Code {
		case http.StatusOK:
			var said, told struct {
				Booking *booking.ID `json:"booking_id"`
			}
			if len(bytes.TrimSpace([]byte(body))) > 0 {
				if err := json.Unmarshal([]byte(body), &said); err != nil {
					t.Fatalf("took what is not JSON: %v", err)
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told.Booking == nil {
				t.Fatalf("answer %q: %v", w.Body, err)
			}
			want := ids[0]
			if said.Booking != nil {
				want = *said.Booking
			} else if strings.Contains(body, "null") {
				t.Errorf("%q was given any booking", body)
			}
			if *told.Booking != want {
				t.Errorf("%q was given %s, want %s", body, *told.Booking, want)
			}
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
			if e.ledger.Tried() != tried {
				t.Errorf("%q was refused with %q after an attempt", body, w.Body)
			}
		default:
			t.Fatalf("answer %d %q", w.Code, w.Body)
		}
		for _, id := range ids {
			if _, err := e.desk.Cancel(t.Context(), command(booking.User, ulla), id, ""); err != nil {
				t.Fatal(err)
			}
		}
	})
}
