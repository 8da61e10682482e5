package sim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/token/tokentest"
)

// A fake simulates the services. Its answers are well formed, and it stores nothing. As an
// http.RoundTripper it needs no network.
type fake struct {
	mu   sync.Mutex
	seen []string // METHOD path

	// say replaces the default answer, by "METHOD /path" without the booking's ID.
	say map[string]http.HandlerFunc
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w.Result(), nil
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if parts := strings.Split(path, "/"); len(parts) > 2 {
		path = strings.Join(slices.Replace(parts, 2, 3, ""), "/") // without the booking's ID
	}
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+path)
	f.mu.Unlock()
	if say, ok := f.say[r.Method+" "+path]; ok {
		say(w, r)
		return
	}
	switch path {
	case "/register":
		answer(w, http.StatusCreated, map[string]any{"status": true})
	case "/login", "/refresh":
		answer(w, http.StatusOK, map[string]any{"token": tokenFor(r), "expires_in": 3600, "refresh_token": "r"})
	case "/book":
		answer(w, http.StatusOK, map[string]any{"booking_id": keyed(r), "state": "open"})
	case "/accept-booking":
		refuse(w, http.StatusNotFound, "no_open_bookings")
	default:
		answer(w, http.StatusOK, map[string]any{})
	}
}

func (f *fake) count(call string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s == call {
			n++
		}
	}
	return n
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"code": code})
}

// tokenFor returns a well-formed token whose account is derived from the email.
func tokenFor(r *http.Request) string {
	var b struct{ Email, Role string }
	_ = json.NewDecoder(r.Body).Decode(&b)
	return tokentest.Claiming(booking.DeriveID(b.Email, b.Role), b.Role)
}

// caller returns the account of a request's token.
func caller(r *http.Request) string {
	subject, _ := tokentest.Claimed(r.Header.Get("Authorization"))
	return subject
}

// keyed returns the ID of the booking that a request makes.
func keyed(r *http.Request) string {
	return booking.DeriveID("booking", caller(r), r.Header.Get("Idempotency-Key"))
}
