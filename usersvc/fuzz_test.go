package usersvc_test

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode/utf8"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// Whatever the body, /book either refuses it and stores nothing, or stores and shows exactly what
// it said.
func FuzzBook(f *testing.F) {
	for _, seed := range []string{
		"", " ", "{}", "[]", "null", "{}{}", `{"pickup":null}`,
		`{"pickup":{"lat":1,"lng":2},"dropoff":{"lat":1.3,"lng":2.4}}`,
		`{"pickup":{"lat":-0.0,"lng":1e-320},"dropoff":{"lat":0.5,"lng":-0.5}}`,
		`{"pickup":{"lat":1,"lng":2},"dropoff":{"lat":90,"lng":-180}}`,
		`{"pickup":{"lat":1e999,"lng":2},"dropoff":{"lat":3,"lng":4}}`,
		`{"Pickup":{"lat":1,"lng":2},"dropoff":{"lat":3,"lng":4}}`,
		`{"pickup":{"lat":1,"lat":2,"lng":2},"dropoff":{"lat":3,"lng":4}}`,
		`{"pickup":{"lat":1},"dropoff":{"lng":4}}`, `{"pickup":{"lat":"1","lng":2}}`,
		`{"pic\u006bup":{"lat":1,"lng":2},"dropoff":{"lat":3,"lng":4}}`,
		"{\"\\u0000\":1}", "\xff", "\xef\xbb\xbf{}", `{"pickup":[[[[[[[[[[[[[[[[[[[[`,
	} {
		f.Add([]byte(seed))
	}
	e := newEnv(f)
	bearer := e.user(ulla)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := e.ledger.Appended()
		w := httptest.NewRecorder()
		e.handler.ServeHTTP(w, webtest.Request("POST", "/book", bearer, string(body)))
		switch w.Code {
		case http.StatusOK:
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if !utf8.Valid(w.Body.Bytes()) || e.ledger.Appended() != before {
				t.Errorf("refused with %q, after storing %d events", w.Body, e.ledger.Appended()-before)
			}
			return
		default:
			t.Fatalf("answer %d %q", w.Code, w.Body)
		}
		type trip struct{ Pickup, Dropoff *struct{ Lat, Lng *float64 } }
		var said, shown trip
		if len(bytes.TrimSpace(body)) > 0 {
			if err := json.Unmarshal(body, &said); err != nil {
				t.Fatalf("took what is not JSON: %v", err)
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &shown); err != nil {
			t.Fatalf("answer %q: %v", w.Body, err)
		}
		if (said.Pickup == nil) != (shown.Pickup == nil) || (said.Dropoff == nil) != (shown.Dropoff == nil) ||
			(said.Pickup == nil) != (said.Dropoff == nil) {
			t.Fatalf("said %s, shown %s", body, w.Body)
		}
		if said.Pickup == nil {
			return
		}
		for _, n := range [][2]*float64{
			{said.Pickup.Lat, shown.Pickup.Lat}, {said.Pickup.Lng, shown.Pickup.Lng},
			{said.Dropoff.Lat, shown.Dropoff.Lat}, {said.Dropoff.Lng, shown.Dropoff.Lng},
		} {
			if n[0] == nil || n[1] == nil || *n[0] != *n[1] || math.Abs(*n[0]) > 180 {
				t.Fatalf("said %s, shown %s", body, w.Body)
			}
		}
	})
}

// Whatever the body, a cancel either refuses it and leaves the booking as it was, or keeps its
// reason to the letter.
func FuzzCancel(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"reason":""}`, `{"reason":"x"}`, `{"reason":"\u00e4\ud83d\ude00"}`, `{"reason":"\ud800"}`,
		`{"reason":"\n"}`,
		`{"reason":null}`, `{"reason":1}`, `{"REASON":"x"}`, `{"reason":"a","reason":"b"}`, "{\"reason\":\"\xff\"}",
		`{"reason":"\u202e"}`,
	} {
		f.Add([]byte(seed))
	}
	e := newEnv(f)
	bearer := e.user(ulla)
	f.Fuzz(func(t *testing.T, body []byte) {
		id := booking.ID(booking.NewID())
		if _, err := e.desk.Book(t.Context(), command(booking.User, ulla), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		e.handler.ServeHTTP(w, webtest.Request("POST", "/bookings/"+string(id)+"/cancel", bearer, string(body)))
		b, err := e.desk.Show(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		switch w.Code {
		case http.StatusOK:
			var said, shown struct{ Reason string }
			if len(bytes.TrimSpace(body)) > 0 {
				if err := json.Unmarshal(body, &said); err != nil {
					t.Fatalf("took what is not JSON: %v", err)
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &shown); err != nil {
				t.Fatalf("answer %q: %v", w.Body, err)
			}
			if b.State != booking.StateCancelled || b.Reason != said.Reason || shown.Reason != said.Reason {
				t.Errorf("said %q, stored %q, shown %q in state %s", said.Reason, b.Reason, shown.Reason, b.State)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if b.State != booking.StateOpen {
				t.Errorf("refused with %q, and the booking is %s", w.Body, b.State)
			}
		default:
			t.Fatalf("answer %d %q", w.Code, w.Body)
		}
	})
}
