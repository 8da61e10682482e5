package sim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/example/pillion/booking"
)

const fare = 5000 // of every ride

// A taker is a fake on which bookings are taken: each open one is offered to all, and accepted by
// the first who asks.
type taker struct {
	*fake

	mu        sync.Mutex
	open      []string // ids
	positions map[string][]booking.Place
}

func newTaker() *taker {
	k := &taker{fake: &fake{}, positions: make(map[string][]booking.Place)}
	k.say = map[string]http.HandlerFunc{
		"POST /book": func(w http.ResponseWriter, r *http.Request) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.open = append(k.open, keyed(r))
			answer(w, http.StatusOK, map[string]any{"booking_id": keyed(r)})
		},
		"GET /open-bookings": func(w http.ResponseWriter, _ *http.Request) {
			k.mu.Lock()
			defer k.mu.Unlock()
			list := []map[string]any{}
			for _, id := range k.open {
				list = append(list, map[string]any{"booking_id": id, "pickup_distance_m": 200})
			}
			answer(w, http.StatusOK, map[string]any{"bookings": list})
		},
		"POST /accept-booking": k.accept,
		"PUT /position": func(w http.ResponseWriter, r *http.Request) {
			var p booking.Place
			_ = json.NewDecoder(r.Body).Decode(&p)
			k.mu.Lock()
			defer k.mu.Unlock()
			k.positions[caller(r)] = append(k.positions[caller(r)], p)
			answer(w, http.StatusOK, map[string]any{})
		},
	}
	for _, verb := range []string{"arrive", "start", "complete", "cancel", "release", "rate"} {
		k.say["POST /bookings//"+verb] = func(w http.ResponseWriter, r *http.Request) {
			id := strings.Split(r.URL.Path, "/")[2]
			if verb == "cancel" {
				k.take(id)
			}
			answer(w, http.StatusOK, map[string]any{"booking_id": id})
		}
	}
	k.say["GET /bookings/"] = func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]any{"booking_id": strings.Split(r.URL.Path, "/")[2], "start_code": "1234"})
	}
	return k
}

// accept gives the rider the booking that it names, or the first one.
func (k *taker) accept(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Booking string `json:"booking_id"`
	}
	_ = json.NewDecoder(r.Body).Decode(&asked)
	if id := k.take(asked.Booking); id != "" {
		answer(w, http.StatusOK, map[string]any{"booking_id": id, "fare": fare})
		return
	}
	if asked.Booking != "" {
		refuse(w, http.StatusConflict, "already_accepted")
		return
	}
	refuse(w, http.StatusNotFound, "no_open_bookings")
}

// take removes an open booking, or the first one if id is empty. It returns "" if there is none.
func (k *taker) take(id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, open := range k.open {
		if open == id || id == "" {
			k.open = append(k.open[:i:i], k.open[i+1:]...)
			return open
		}
	}
	return ""
}

// leap returns the greatest distance between two positions that a rider has reported one after the
// other.
func (k *taker) leap() (metres float64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, ps := range k.positions {
		for i := range ps[:max(0, len(ps)-1)] {
			metres = max(metres, ps[i].Distance(ps[i+1]))
		}
	}
	return metres
}
