package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// TestNothingAcknowledgedIsLost kills the system with kill -9. Every acknowledged booking exists
// afterwards, and a retry with the same key returns the same booking.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	const kills, clients = 10, 64
	p := newPorts(t)
	data := t.TempDir()
	prog := pillion(t, p, data)
	bearer := "Bearer " + login(t, p, "john@example.com", "user")

	var mu sync.Mutex
	booked := map[string]string{} // booking ID by idempotency key
	total := 0
	for round := range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		answered := make(chan struct{}, clients)
		for c := range clients {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					key := fmt.Sprintf("round-%d-client-%d-%d", round, c, i)
					a, err := call(ctx, "POST", "http://"+p.user+"/book", "{}", "Authorization", bearer,
						"Idempotency-Key", key)
					if err != nil || a.status != http.StatusOK {
						continue // without an answer the booking may or may not exist
					}
					mu.Lock()
					booked[key] = a.field("booking_id")
					mu.Unlock()
					select {
					case answered <- struct{}{}:
					default:
					}
				}
			})
		}
		// Kill it at a random moment, after some answers.
		for range 20 + rand.IntN(100) {
			select {
			case <-answered:
			case <-time.After(wait.Patience):
				t.Fatal("no booking is answered")
			}
		}
		prog.Kill()
		cancel()
		wg.Wait()
		prog = pillion(t, p, data)

		checkBooked(t, p, bearer, booked)
		total += len(booked)
		clear(booked)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	t.Logf("%d kills, %d bookings answered and found again", kills, total)
}

// checkBooked reads every booking, and books each again with its key.
func checkBooked(t *testing.T, p ports, bearer string, booked map[string]string) {
	t.Helper()
	type pair struct{ key, id string }
	work := make(chan pair)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for b := range work {
				if a, err := call(t.Context(), "GET", "http://"+p.user+"/bookings/"+b.id, "", "Authorization",
					bearer); err != nil || a.status != http.StatusOK {
					t.Errorf("booking %s was answered and is lost: %d %s %v", b.id, a.status, a.body, err)
				}
				a, err := call(t.Context(), "POST", "http://"+p.user+"/book", "{}", "Authorization", bearer,
					"Idempotency-Key", b.key)
				if err != nil || a.status != http.StatusOK || a.field("booking_id") != b.id {
					t.Errorf("a retry of %s gave %d %s %v", b.id, a.status, a.body, err)
				}
			}
		})
	}
	for key, id := range booked {
		work <- pair{key, id}
	}
	close(work)
	wg.Wait()
}
